// A pad to draw on with finger, mouse or keys.  The drawing goes to the node as it is, 112x112 bytes of ink; cutting
// out, scaling and counting are the node's work.
"use strict";

(() => {
  const canvas = document.getElementById("canvas");
  if (!canvas) return;
  const address = document.querySelector(".draw").dataset.address;
  const side = canvas.width;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const PEN_WIDTH = 13;
  const KEY_STEP = 4;
  const WAIT_MS = 120;
  const place = { x: side / 2, y: side / 2 };
  let isDown = false;
  let isKeyDown = false;
  let isAsking = false;
  let isChanged = false;
  let isEmpty = true;

  function prepare() {
    pen.lineCap = pen.lineJoin = "round";
    pen.lineWidth = PEN_WIDTH;
    pen.strokeStyle = getComputedStyle(canvas).color;
  }

  function line(x, y) {
    pen.beginPath();
    pen.moveTo(place.x, place.y);
    pen.lineTo(x, y);
    pen.stroke();
    place.x = x;
    place.y = y;
    isEmpty = false;
    changed();
  }

  function to(event) {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * side / box.width, (event.clientY - box.top) * side / box.height];
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    isDown = true;
    [place.x, place.y] = to(event);
    line(place.x, place.y);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!isDown) return;
    for (const each of event.getCoalescedEvents?.() ?? [event]) line(...to(each));
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { isDown = false; });

  const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const move = MOVES[event.key];
    if (move) {
      const clamp = (value) => Math.min(side - 1, Math.max(0, value));
      const x = clamp(place.x + move[0] * KEY_STEP), y = clamp(place.y + move[1] * KEY_STEP);
      if (isKeyDown) line(x, y); else { place.x = x; place.y = y; }
      say(`Pen ${isKeyDown ? "down" : "up"} at ${Math.round(x)}, ${Math.round(y)}`);
    } else if (event.key === " " || event.key === "Enter") {
      isKeyDown = !isKeyDown;
      if (isKeyDown) line(place.x, place.y);
      say(`Pen ${isKeyDown ? "down" : "up"}`);
    } else if (event.key === "Delete" || event.key === "Backspace") {
      clear();
    } else {
      return;
    }
    event.preventDefault();
  });

  document.getElementById("clear").addEventListener("click", clear);

  function say(text) {
    document.getElementById("keys").textContent = `${text}. Arrows move the pen, Space sets it down or lifts it, Delete clears.`;
  }

  function clear() {
    pen.clearRect(0, 0, side, side);
    isKeyDown = isDown = false;
    isEmpty = true;
    isChanged = false;
    show(null);
  }

  function changed() {
    isChanged = true;
    if (!isAsking) ask();
  }

  // One question at a time; what was drawn meanwhile is asked next.
  async function ask() {
    isAsking = true;
    try {
      while (isChanged) {
        await new Promise((resolve) => setTimeout(resolve, WAIT_MS));
        isChanged = false;
        if (isEmpty) break;
        const pixels = pen.getImageData(0, 0, side, side).data;
        const ink = new Uint8Array(side * side);
        for (let index = 0; index < ink.length; index += 1) ink[index] = pixels[4 * index + 3];
        const answer = await fetch(address, { method: "POST", body: ink, headers: { "content-type": "application/octet-stream" } });
        const kind = answer.headers.get("content-type") ?? "";
        const said = kind.startsWith("application/json") ? await answer.json() : { error: await answer.text() };
        if (!isEmpty) show(said);
      }
    } catch {
      show({ error: "the node does not answer" });
    } finally {
      isAsking = false;
    }
  }

  function show(said) {
    const isGood = said && said.scores;
    const label = document.getElementById("label");
    const seen = document.getElementById("seen");
    label.textContent = isGood ? said.label : "–";
    document.getElementById("source").textContent =
      isGood ? `your drawing; kernel ${said.backend}` : said ? said.error : "draw, or choose a sample";
    seen.hidden = !isGood;
    if (isGood) seen.src = said.seen;
    const rows = document.getElementById("scores").rows;
    const scores = isGood ? said.scores : Array(rows.length).fill(0);
    const low = Math.min(...scores), span = Math.max(...scores) - low || 1;
    for (const [index, row] of [...rows].entries()) {
      row.classList.toggle("chosen", Boolean(isGood) && index === said.label);
      row.querySelector("rect").setAttribute("width", Math.round(100 * (scores[index] - low) / span));
      row.cells[2].textContent = scores[index];
    }
  }

  prepare();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", prepare);
})();
