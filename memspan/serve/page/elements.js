// Words, numbers, elements and forms: what every part of the page uses.

import { Refused } from "./server.js";
import { WORDS } from "./words.js";

export const $ = (id) => document.getElementById(id);
let language = "en";

export function setWords(chosen) {
  language = chosen in WORDS ? chosen : "en";
  document.documentElement.lang = language;
  $("language").value = language;
  for (const element of document.querySelectorAll("[data-word]")) element.textContent = word(element.dataset.word);
}

export function word(name, values = {}) {
  return WORDS[language][name].replace(/\{(\w+)\}/g, (_, key) => values[key]);
}

export const number = (value) => value.toLocaleString(language);
export const percent = (share) => share.toLocaleString(language, { style: "percent" });

export function bytes(count) {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte"];
  const power = Math.min(units.length - 1, count ? Math.floor(Math.log10(count) / 3) : 0);
  const style = { style: "unit", unit: units[power], maximumSignificantDigits: 3 };
  return (count / 1000 ** power).toLocaleString(language, style);
}

export function date(seconds) {
  return seconds === null ? "" : new Date(seconds * 1000).toLocaleString(language, { dateStyle: "medium" });
}

export function make(tag, text = "", more = {}) {
  const element = Object.assign(document.createElement(tag), more);
  element.textContent = text;
  return element;
}

export function row(cells) {
  const line = document.createElement("tr");
  line.append(...cells.map((cell) => make("td", cell)));
  return line;
}

function showProblem(error) {
  if (error?.name === "AbortError") return;
  if (error instanceof Refused && error.status === 401) {
    $("use-key").hidden = false;
    $("key-dialog").showModal();
  }
  const known = error instanceof Refused && error.message;
  $("problem").textContent = error ? (known ? error.message : word("unreachable")) : "";
  $("problem").hidden = !error;
}

// Runs what a form or button does: its problem is shown, and the button waits meanwhile.
export async function run(button, action) {
  showProblem(null);
  if (button) button.disabled = true;
  try {
    return await action();
  } catch (error) {
    showProblem(error);
    return undefined;
  } finally {
    if (button) button.disabled = false;
  }
}

export function onSubmit(id, action) {
  $(id).addEventListener("submit", (event) => {
    event.preventDefault();
    run(event.submitter, action);
  });
}
