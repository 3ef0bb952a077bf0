// Dark or light: as the system is, until somebody says otherwise.

const KEY = "diptych-theme";
const system = matchMedia("(prefers-color-scheme: dark)");

function show() {
  const chosen = localStorage.getItem(KEY);
  document.documentElement.dataset.theme = chosen ?? (system.matches ? "dark" : "light");
}

export function turn() {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  if (next === (system.matches ? "dark" : "light")) localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, next);
  show();
}

system.addEventListener("change", show);
show();
