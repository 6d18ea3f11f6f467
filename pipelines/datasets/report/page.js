"use strict";
const players = [...document.querySelectorAll("audio")];
for (const player of players) {
  const shown = player.parentElement.querySelector("output");
  const show = () => {
    player.dataset.duration = player.duration.toFixed(3);
    shown.textContent = player.duration.toFixed(1) + " s";
  };
  player.addEventListener("loadedmetadata", show);
  if (player.readyState > 0) show();
  player.addEventListener("error", () => { shown.textContent = "this browser cannot play it"; });
  player.addEventListener("play", () => {
    for (const other of players) if (other !== player) other.pause();
  });
}
