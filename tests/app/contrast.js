() => {
  const linear = (level) => (level <= 0.03928 ? level / 12.92 : ((level + 0.055) / 1.055) ** 2.4);
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\d.]+/g).map((level) => linear(Number(level) / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  // The first colour behind; null where a picture may shine through.
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (!colour.startsWith("rgba")) return colour;
      if (!colour.endsWith(", 0)")) return null;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const texts = [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE);
    const seen = element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
    if (!seen || !texts.some((node) => node.data.trim())) continue;
    if (element.closest(".caption, .hidden, .skip")) continue;
    const paper = behind(element);
    if (!paper) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(paper)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push(`${element.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return found;
}
