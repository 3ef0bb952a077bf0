() => {
  const named = (element) =>
    element.alt || element.ariaLabel || element.textContent.trim() || element.labels?.length ||
    element.querySelector("img[alt]") || element.getAttribute("aria-labelledby");
  return [...document.querySelectorAll("button, input, img, dialog[open], meter")]
    .filter((element) => element.checkVisibility() && !named(element))
    .map((element) => element.outerHTML.slice(0, 80));
}
