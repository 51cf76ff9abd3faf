// Replaces the figures with those that the server sends. The server has escaped all text in them.
"use strict";

const figures = document.getElementById("figures");
const state = document.getElementById("state");

if (figures) {
  const source = new EventSource("live");
  const show = (text, name) => {
    // Screen readers read the state when it changes.
    if (state.textContent !== text) {
      state.textContent = text;
      state.className = name;
    }
  };
  source.onmessage = (event) => {
    // Keeps text that is being copied.
    if (document.getSelection().isCollapsed) {
      figures.innerHTML = event.data;
    }
    show("live", "live");
  };
  source.onerror = () => {
    const ended = source.readyState === EventSource.CLOSED;
    show(ended ? "not live: reload the page" : "connection lost", "lost");
  };
}
