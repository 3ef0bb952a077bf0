// Short words for what all of the page's files do.

export const $ = (id) => document.getElementById(id);

/** An element with properties and children; what is a text stays a text, whatever it holds. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** The server's answer. Throws an Error with its sentence for a refusal. */
export async function ask(path, sent, signal) {
  const options = { signal };
  if (sent instanceof Blob) Object.assign(options, { method: "POST", body: sent });
  else if (sent) {
    const headers = { "content-type": "application/json" };
    Object.assign(options, { method: "POST", headers, body: JSON.stringify(sent) });
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The app doesn't answer: was it stopped?");
  }
  if (answer.status === 204) return null;
  const type = answer.headers.get("content-type") ?? "";
  const value = type.startsWith("application/json") ? await answer.json() : {};
  if (!answer.ok) throw new Error(value.error ?? (await answer.text()));
  return value;
}

export const picture = (id, kind) => `/api/pictures/${id}/${kind}`;

export const score = (value) => value.toFixed(3).replace("-", "−");

export const count = (value, what) => `${value.toLocaleString("en")} ${what}${value === 1 ? "" : "s"}`;

export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);
