// How the page speaks with the server. Every answer that is no success becomes an Error with the server's own sentence.

const KEY = "memspan-key";

export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export function useKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

function headers(more = {}) {
  const key = sessionStorage.getItem(KEY);
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

async function sentence(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `${response.status} ${response.statusText}`;
  }
}

async function fetched(method, path, body, signal) {
  const json = body === undefined ? {} : { "Content-Type": "application/json" };
  const response = await fetch(path, { method, headers: headers(json), body: body && JSON.stringify(body), signal });
  if (!response.ok) throw new Refused(await sentence(response), response.status);
  return response;
}

export async function call(method, path, body) {
  const response = await fetched(method, path, body);
  return response.status === 204 ? null : response.json();
}

export async function text(path) {
  return (await fetched("GET", path)).text();
}

// The events of a stream (server-sent events), each as an object.
export async function* events(path, body, signal) {
  const response = await fetched("POST", path, body, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const data = part.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim()).join("\n");
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

// Sends a file; `sent` is called with the share that was sent, `event` with each line that the server answers while it reads.
export function upload(path, file, sent, event) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let seen = 0;
    const lines = () => {
      const end = request.responseText.lastIndexOf("\n") + 1;
      const fresh = request.responseText.slice(seen, end);
      seen = Math.max(seen, end);
      for (const line of fresh.split("\n")) if (line) event(JSON.parse(line));
    };
    request.open("POST", path);
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.upload.onprogress = (progress) => sent(progress.total ? progress.loaded / progress.total : 0);
    request.onprogress = () => { if (request.status === 200) lines(); };
    request.onerror = () => reject(new Refused("", 0));
    request.onload = () => {
      if (request.status === 200) {
        lines();
        resolve();
        return;
      }
      try {
        reject(new Refused(JSON.parse(request.responseText).error.message, request.status));
      } catch {
        reject(new Refused(`${request.status} ${request.statusText}`, request.status));
      }
    };
    const form = new FormData();
    form.append("file", file, file.name);
    request.send(form);
  });
}
