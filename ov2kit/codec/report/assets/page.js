"use strict";
(() => {
  const data = JSON.parse(document.getElementById("blocks").textContent);
  const { rows, columns, times, canvases } = data;
  const tip = document.getElementById("tip");
  const large = document.getElementById("large");
  const tint = document.getElementById("tint");
  const SVG = "http://www.w3.org/2000/svg";

  // Per canvas and place: [source frame, source cell], undefined where it is empty.
  const places = canvases.map(({ runs }) => {
    const cells = new Array(rows * columns);
    for (const [frame, first, ...sources] of runs) {
      sources.forEach((source, i) => { cells[first + i] = [frame, source]; });
    }
    return cells;
  });

  // Seconds of the first and last block of each group, for the tint.
  const spans = [];
  canvases.forEach(({ group, runs }) => {
    for (const [frame] of runs) {
      const span = spans[group] || (spans[group] = [Infinity, -Infinity]);
      span[0] = Math.min(span[0], times[frame]);
      span[1] = Math.max(span[1], times[frame]);
    }
  });

  const clock = (seconds) => {
    if (Math.abs(seconds) < 60) return seconds.toFixed(2) + " s";
    const whole = Math.floor(seconds / 60);
    const rest = (seconds % 60).toFixed(2).padStart(5, "0");
    return whole < 60 ? `${whole}:${rest}` : `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}:${rest}`;
  };
  const squares = (list) => list.map((p) => `M${p % columns} ${Math.floor(p / columns)}h1v1h-1z`).join("");

  const mark = (picture, k, place) => {
    let layer = picture.querySelector("svg");
    if (!layer) {
      layer = document.createElementNS(SVG, "svg");
      layer.setAttribute("class", "over-picture");
      layer.setAttribute("viewBox", `0 0 ${columns} ${rows}`);
      layer.setAttribute("preserveAspectRatio", "none");
      for (const name of ["same", "at"]) {
        const path = document.createElementNS(SVG, "path");
        path.setAttribute("class", name);
        layer.append(path);
      }
      picture.append(layer);
    }
    const here = place === null ? undefined : places[k][place];
    const same = [];
    if (here) places[k].forEach((cell, p) => { if (cell && cell[0] === here[0]) same.push(p); });
    layer.querySelector(".same").setAttribute("d", same.length < rows * columns ? squares(same) : "");
    layer.querySelector(".at").setAttribute("d", place === null ? "" : squares([place]));
  };

  const point = (event) => {
    const picture = event.currentTarget;
    const k = Number(picture.dataset.canvas);
    const box = picture.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / box.width * columns);
    const row = Math.floor((event.clientY - box.top) / box.height * rows);
    if (column < 0 || row < 0 || column >= columns || row >= rows) return leave(event);
    const place = row * columns + column;
    const cell = places[k][place];
    mark(picture, k, place);
    tip.textContent = cell
      ? `${clock(times[cell[0]])}, frame ${cell[0]}, from row ${Math.floor(cell[1] / columns) + 1} of ${rows}, column ${cell[1] % columns + 1} of ${columns}`
      : "empty place";
    const host = large.open ? large : document.body;
    if (tip.parentNode !== host) host.append(tip);
    tip.hidden = false;
    const size = tip.getBoundingClientRect();
    const left = Math.min(Math.max(8, event.clientX + 14), innerWidth - size.width - 8);
    const above = event.clientY - size.height - 14;
    tip.style.left = left + "px";
    tip.style.top = (above > 8 ? above : event.clientY + 18) + "px";
  };

  const leave = (event) => {
    tip.hidden = true;
    mark(event.currentTarget, Number(event.currentTarget.dataset.canvas), null);
  };

  const watch = (picture, k) => {
    picture.dataset.canvas = k;
    picture.addEventListener("pointermove", point);
    picture.addEventListener("pointerdown", point);
    picture.addEventListener("pointerleave", leave);
    paint(picture, k);
  };

  const paint = (picture, k) => {
    picture.querySelector(".tint")?.remove();
    if (!tint.checked) return;
    const layer = document.createElement("canvas");
    layer.className = "tint";
    layer.width = columns;
    layer.height = rows;
    const pen = layer.getContext("2d");
    const [first, last] = spans[canvases[k].group];
    places[k].forEach((cell, p) => {
      const part = last > first ? (times[cell[0]] - first) / (last - first) : 0;
      pen.fillStyle = `hsl(${Math.round(250 - 230 * part)} 90% 55%)`;
      pen.fillRect(p % columns, Math.floor(p / columns), 1, 1);
    });
    picture.append(layer);
  };

  const open = (figure) => {
    const k = Number(figure.dataset.canvas);
    const copy = figure.cloneNode(true);
    copy.querySelectorAll("svg, .tint").forEach((layer) => layer.remove());
    copy.removeAttribute("tabindex");
    copy.className = "";
    large.querySelector("div").replaceChildren(copy);
    tip.hidden = true;
    large.showModal();
    watch(copy.querySelector(".picture"), k);
  };

  const figures = [...document.querySelectorAll("figure.canvas")];
  for (const figure of figures) {
    const picture = figure.querySelector(".picture");
    const k = Number(figure.dataset.canvas);
    watch(picture, k);
    // A mouse opens the large view with a click, a finger with a second tap on the same canvas.
    let tapped = false;
    picture.addEventListener("pointerdown", (event) => {
      picture.dataset.open = event.pointerType === "mouse" || tapped;
      tapped = true;
    });
    picture.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") tapped = false; });
    picture.addEventListener("click", () => { if (picture.dataset.open === "true") open(figure); });
    figure.addEventListener("keydown", (event) => { if (event.key === "Enter") open(figure); });
  }
  tint.addEventListener("change", () => {
    for (const figure of figures) paint(figure.querySelector(".picture"), Number(figure.dataset.canvas));
  });
  large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
  large.addEventListener("close", () => { tip.hidden = true; });
})();
