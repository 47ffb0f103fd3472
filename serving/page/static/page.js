// The page works without this: it brings slow parts after the first paint, and then what changed.
"use strict";

const PAUSE = 1500; // milliseconds between two refreshes, however much happens
const SLOW = 20000; // and of the parts that take a while
const live = document.getElementById("live");
let waits = false;

async function fetched(address) {
  const answer = await fetch(address);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  return { page, signedOut: answer.redirected, well: answer.ok };
}

async function bring(place) {
  try {
    const { page, well } = await fetched(place.dataset.load);
    const found = well ? page.body : page.querySelector("main"); // a refusal is a whole page
    place.replaceChildren(...found.childNodes);
    place.dataset.brought = Date.now();
  } catch { /* away for now: the link in it still leads there */ }
}

function busy(part) {
  const chosen = document.getSelection();
  return part.contains(document.activeElement) || part.querySelector("details[open]") ||
    (chosen && !chosen.isCollapsed && part.contains(chosen.anchorNode));
}

async function refresh() {
  const { page, signedOut, well } = await fetched(location.href);
  if (signedOut) { location.reload(); return; }
  if (!well) return;
  document.title = page.title;
  for (const part of page.querySelectorAll("main > section, main > .two > section")) {
    const here = document.getElementById(part.id);
    if (!here) { location.reload(); return; } // a part that was not there: an incident, say
    if (busy(here) || part.querySelector("[data-load]") || part.innerHTML === here.innerHTML) continue;
    here.replaceWith(document.importNode(part, true));
  }
  for (const here of document.querySelectorAll("main > section[id]"))
    if (!page.getElementById(here.id) && !busy(here)) here.remove();
  for (const place of document.querySelectorAll("[data-brought]"))
    if (Date.now() - place.dataset.brought > SLOW && !busy(place)) bring(place);
}

function changed() {
  if (waits || document.hidden) return;
  waits = true;
  setTimeout(() => { waits = false; refresh().catch(() => {}); }, PAUSE);
}

function begin() {
  document.querySelectorAll("[data-load]").forEach(bring);
  if (!live || !document.querySelector("[data-live]")) return;
  const events = new EventSource("/page/events");
  let known = "";
  events.addEventListener("state", (event) => {
    live.textContent = "live";
    if (known && known !== event.data) changed();
    known = event.data;
  });
  events.onerror = () => { live.textContent = "not live: asking again"; };
  document.addEventListener("visibilitychange", changed);
}

// Not before the first picture is there: what it would bring competes with it for the machine.
requestAnimationFrame(() => setTimeout(begin));
