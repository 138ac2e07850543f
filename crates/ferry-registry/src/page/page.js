"use strict";
const $ = id => document.getElementById(id);
const PAGE = 100;
let last = "", more = false, query = "", drawn = 0;

// Everything from outside becomes text, never markup.
function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) node.setAttribute(key, value);
  }
  node.append(...children.flat().filter(child => child !== null && child !== undefined));
  return node;
}

const size = bytes => {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) { bytes /= 1000; unit += 1; }
  return `${bytes >= 100 || unit === 0 ? Math.round(bytes) : bytes.toFixed(1)} ${units[unit]}`;
};
const count = (number, word) => `${number} ${word}${number === 1 ? "" : word.endsWith("y") ? "" : "s"}`;
const short = digest => digest.slice(0, digest.indexOf(":") + 13);
const since = seconds => {
  const age = Math.max(0, Date.now() / 1000 - seconds);
  for (const [unit, length] of [["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60]]) {
    const whole = Math.floor(age / length);
    if (whole >= 1) return `${whole} ${unit}${whole === 1 ? "" : "s"} ago`;
  }
  return "just now";
};
const link = (name, reference) =>
  `#/${name}${reference ? (reference.includes(":") ? "@" : ":") + reference : ""}`;

function say(text) {
  $("note").textContent = text;
  $("note").classList.add("shown");
  clearTimeout(say.timer);
  say.timer = setTimeout(() => $("note").classList.remove("shown"), 3500);
}

async function ask(task, parameters, method) {
  const target = `/ferry/v1/${task}?${new URLSearchParams(parameters || {})}`;
  const answer = await fetch(target, { method: method || "GET", credentials: "same-origin" });
  if (answer.ok) return answer.status === 202 ? null : answer.json();
  const problem = await answer.json().catch(() => null);
  throw new Error(problem ? problem.errors[0].message : `the registry answers ${answer.status}`);
}

async function repositories(next) {
  const wanted = query;
  const page = await ask("repositories", { n: PAGE, last: next ? last : "", q: query });
  if (wanted !== query) return;
  const list = $("list");
  if (!next) list.replaceChildren();
  list.querySelector("button")?.remove();
  for (const one of page.repositories) {
    list.append(make("a", { href: link(one.name) }, one.name,
      make("small", {}, `${count(one.tags, "tag")} · ${size(one.size)}`)));
  }
  last = page.last || "";
  more = page.more;
  if (more) list.append(make("button", { type: "button", onclick: () => repositories(true) }, "Show more"));
  if (!list.children.length) {
    list.append(make("p", { class: "empty" }, query ? "No repository has this in its name." : "Nothing here yet."));
  }
  const totals = page.totals;
  $("totals").textContent = `${totals.repositories} ${totals.repositories === 1 ? "repository" : "repositories"} · ${count(totals.tags, "tag")}`;
  mark();
}

const place = () => {
  const text = decodeURIComponent(location.hash.replace(/^#\/?/, ""));
  if (!text) return { name: "", reference: "" };
  const at = text.indexOf("@");
  if (at > 0) return { name: text.slice(0, at), reference: text.slice(at + 1) };
  const colon = text.indexOf(":");
  return colon > 0 ? { name: text.slice(0, colon), reference: text.slice(colon + 1) } : { name: text, reference: "" };
};

function mark() {
  const { name } = place();
  for (const entry of $("list").querySelectorAll("a")) {
    if (entry.getAttribute("href") === link(name)) entry.setAttribute("aria-current", "true");
    else entry.removeAttribute("aria-current");
  }
  document.body.classList.toggle("inside", !!name);
  document.title = name ? `${name} – Registry` : "Registry";
}

function pull(name, reference) {
  const separator = reference.includes(":") ? "@" : ":";
  const command = `docker pull ${location.host}/${name}${separator}${reference}`;
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(command);
      say("Copied.");
    } catch {
      // Pages without encryption have no clipboard; the text is selected for the person's own keys.
      getSelection().selectAllChildren(line);
      say("Selected: copy it with your keyboard.");
    }
  };
  const line = make("code", { tabindex: "0", "aria-label": "Pull command" }, command);
  return make("div", { class: "pull" }, line, make("button", { type: "button", onclick: copy }, "Copy"));
}

function remove(name, reference, after) {
  const isTag = !reference.includes(":");
  $("question").textContent = `Delete ${isTag ? `${name}:${reference}` : short(reference)}?`;
  $("consequence").textContent = isTag
    ? "The tag goes; the image stays until nothing refers to it."
    : "The image goes with all its tags. Its space is free soon after.";
  const dialog = $("confirm");
  dialog.returnValue = "";
  dialog.onclose = async () => {
    if (dialog.returnValue !== "yes") return;
    try {
      await ask("delete", { repository: name, reference }, "POST");
      say("Deleted.");
      await repositories(false);
      location.hash === after ? show() : location.hash = after;
    } catch (error) { say(error.message); }
  };
  dialog.showModal();
}

const up = (href, text) => make("a", { class: "back", href }, `← ${text}`);

async function overview(name) {
  const tags = await ask("tags", { repository: name });
  const rows = tags.map(tag => make("tr", {},
    make("td", {}, make("a", { href: link(name, tag.tag) }, tag.tag)),
    make("td", { class: "wide" }, make("code", {}, short(tag.digest))),
    make("td", { class: "number" }, size(tag.size)),
    make("td", { class: "wide soft number" }, since(tag.set)),
    make("td", { class: "number" },
      make("button", { type: "button", class: "danger", "aria-label": `Delete tag ${tag.tag}`,
        onclick: () => remove(name, tag.tag, link(name)) }, "Delete"))));
  const newest = [...tags].sort((a, b) => b.set - a.set)[0];
  return [make("div", { class: "card" }, up("#/", "All repositories"), make("h2", {}, name),
    make("span", { class: "soft" }, count(tags.length, "tag")),
    newest ? pull(name, newest.tag) : null),
  make("div", { class: "card" }, make("h3", {}, "Tags"), tags.length ? make("table", {},
    make("thead", {}, make("tr", {}, make("th", {}, "Tag"), make("th", { class: "wide" }, "Digest"),
      make("th", { class: "number" }, "Size"), make("th", { class: "wide number" }, "Pushed"),
      make("th", {}, make("span", { class: "unseen" }, "Actions")))),
    make("tbody", {}, rows)) : make("p", { class: "soft" }, "No tags."))];
}

function platform(of) {
  return of ? [of.os, of.architecture, of.variant].filter(Boolean).join("/") : "any";
}

async function image(name, reference) {
  const found = await ask("manifest", { repository: name, reference });
  const manifest = found.manifest;
  const facts = make("dl", {});
  const fact = (term, value) => value && facts.append(make("dt", {}, term), make("dd", {}, value));
  fact("Digest", make("code", {}, found.digest));
  fact("Type", manifest.artifactType || found.mediaType);
  const config = found.config;
  if (config) {
    fact("Platform", platform(config));
    fact("Created", config.created && new Date(config.created).toLocaleString());
    const run = config.config || {};
    fact("Command", [...(run.Entrypoint || []), ...(run.Cmd || [])].join(" "));
    fact("Ports", Object.keys(run.ExposedPorts || {}).join(", "));
    fact("User", run.User);
  }
  const parts = manifest.manifests || manifest.layers || [];
  const total = parts.reduce((sum, part) => sum + part.size, manifest.config ? manifest.config.size : 0);
  if (!manifest.manifests) fact("Size", size(total));
  const largest = Math.max(1, ...parts.map(part => part.size));
  const rows = parts.map((part, number) => make("tr", {},
    make("td", {}, manifest.manifests
      ? make("a", { href: link(name, part.digest) }, platform(part.platform))
      : `${number + 1}`),
    make("td", {}, make("code", { title: part.digest }, short(part.digest))),
    make("td", { class: "wide soft" }, part.mediaType.replace(/^application\/vnd\./, "")),
    make("td", { class: "wide share" }, bar(part.size / largest)),
    make("td", { class: "number" }, size(part.size))));
  const heading = manifest.manifests ? "Platforms" : "Layers";
  const separator = reference.includes(":") ? "@" : ":";
  return [make("div", { class: "card" }, up(link(name), name),
    make("h2", {}, make("a", { href: link(name) }, name), separator + (reference.includes(":") ? short(reference) : reference)),
    pull(name, reference), facts,
    make("p", {}, make("button", { type: "button", class: "danger",
      onclick: () => remove(name, reference, link(name)) }, reference.includes(":") ? "Delete image" : "Delete tag"))),
  make("div", { class: "card" }, make("h3", {}, `${heading} (${parts.length})`), make("table", {},
    make("thead", {}, make("tr", {}, make("th", {}, manifest.manifests ? "Platform" : "#"), make("th", {}, "Digest"),
      make("th", { class: "wide" }, "Type"), make("th", { class: "wide share" }, make("span", { class: "unseen" }, "Share")), make("th", { class: "number" }, "Size"))),
    make("tbody", {}, rows)))];
}

function bar(share) {
  const node = make("div", { class: "bar" });
  node.style.width = `${Math.round(share * 100)}%`;
  return node;
}

async function show() {
  mark();
  drawn += 1;
  const mine = drawn;
  const { name, reference } = place();
  let content;
  try {
    if (reference) content = await image(name, reference);
    else if (name) content = await overview(name);
    else content = [make("div", { class: "card empty" }, "Choose a repository, or push one:",
      make("div", { class: "pull" }, make("code", {}, `docker push ${location.host}/name:tag`)))];
  } catch (error) {
    content = [make("div", { class: "card empty" }, up("#/", "All repositories"), make("p", {}, error.message))];
  }
  if (mine !== drawn) return;
  $("detail").replaceChildren(...content);
}

$("search").addEventListener("input", () => {
  clearTimeout(repositories.timer);
  repositories.timer = setTimeout(() => { query = $("search").value.trim(); repositories(false); }, 120);
});
document.addEventListener("keydown", event => {
  if ($("confirm").open || event.ctrlKey || event.metaKey || event.altKey) return;
  const inField = event.target.matches("input");
  const entries = [...$("list").querySelectorAll("a")];
  const at = entries.indexOf(document.activeElement);
  if (event.key === "/" && !inField) { $("search").focus(); event.preventDefault(); }
  else if (event.key === "Escape" && inField) { $("search").value = ""; query = ""; repositories(false); $("search").blur(); }
  else if (event.key === "Escape") {
    const { name, reference } = place();
    location.hash = reference ? link(name) : "#/";
  } else if (event.key === "ArrowDown" && entries.length && (inField || at >= 0)) {
    entries[Math.min(at + 1, entries.length - 1)].focus(); event.preventDefault();
  } else if (event.key === "ArrowUp" && at >= 0) {
    (at === 0 ? $("search") : entries[at - 1]).focus(); event.preventDefault();
  }
});
addEventListener("hashchange", () => { show(); $("detail").focus({ preventScroll: true }); scrollTo(0, 0); });
repositories(false).catch(error => say(error.message));
show();
