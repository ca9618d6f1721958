"use strict";
for (const place of document.querySelectorAll("[data-figure]")) {
  const figure = JSON.parse(document.getElementById(place.dataset.figure).textContent);
  Plotly.newPlot(place, figure.data, figure.layout, {
    responsive: true,
    displaylogo: false,
    // Nothing leaves the page.
    showSendToCloud: false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  });
  const choices = JSON.parse(place.dataset.choices);
  if (choices === null) continue;
  const bar = document.createElement("div");
  bar.className = "choices";
  bar.append("Coloured by ");
  for (const [title, traces] of choices) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = title;
    button.setAttribute("aria-pressed", String(bar.querySelector("button") === null));
    button.addEventListener("click", () => {
      Plotly.restyle(place, { visible: figure.data.map((_, trace) => traces.includes(trace)) });
      for (const other of bar.querySelectorAll("button")) {
        other.setAttribute("aria-pressed", String(other === button));
      }
    });
    bar.append(button);
  }
  place.before(bar);
}
// One voice at a time.
document.addEventListener("play", (event) => {
  for (const player of document.querySelectorAll("audio")) {
    if (player !== event.target) player.pause();
  }
}, true);
