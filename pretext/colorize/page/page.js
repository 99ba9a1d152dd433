// The page: sends photos to its server, and paints their previews. The server decodes a small map of colours for each
// wish; joining it with the photo's lightness is done here, so that the slider answers at once.
"use strict";

const $ = (id) => document.getElementById(id);
const photos = [];
const RULES = { annealed: "the annealed mean", mean: "the mean", median: "the median", mode: "the likeliest colour" };
const OWN = "the model's own colour";
let model, table, current, reference = null, wish = 0, chosen = { rule: "annealed" }, samples = [];

async function ask(path, options) {
  const answer = await fetch(path, options).catch(() => null);
  if (!answer) throw new Error("the server does not answer; is it still running?");
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error || `the server says ${answer.status}`);
  return answer;
}

function complain(text) {
  const line = document.createElement("p");
  line.textContent = text;
  $("errors").append(line);
}

// The server's table has few lightnesses; one for each value of a gray pixel saves a third of the work below.
function expand(small) {
  const [points, pointsA, pointsB] = model.table.points, plane = 3 * pointsA * pointsB, all = new Uint8Array(256 * plane);
  for (let gray = 0; gray < 256; gray++) {
    const place = gray * (points - 1) / 255, low = Math.min(Math.floor(place), points - 2), share = place - low;
    for (let k = 0; k < plane; k++) {
      const from = small[low * plane + k];
      all[gray * plane + k] = from + (small[(low + 1) * plane + k] - from) * share + 0.5;
    }
  }
  return all;
}

// ab of pixel (x, y) lies between the four positions around it; its colour lies between four points of the table.
function paint(canvas, lightness, width, height, ab, across, down) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d"), image = context.createImageData(width, height), out = image.data;
  const [, pointsA, pointsB] = model.table.points, reach = model.table.reach, plane = across * down;
  const scaleA = (pointsA - 1) / (2 * reach), scaleB = (pointsB - 1) / (2 * reach), strideA = 3 * pointsB, strideL = strideA * pointsA;
  const left = new Int32Array(width), right = new Int32Array(width), share = new Float32Array(width);
  for (let x = 0; x < width; x++) {
    const place = Math.min(Math.max((x + 0.5) * across / width - 0.5, 0), across - 1);
    left[x] = Math.floor(place);
    right[x] = Math.min(left[x] + 1, across - 1);
    share[x] = place - left[x];
  }
  const rowA = new Float32Array(across), rowB = new Float32Array(across);
  for (let y = 0, p = 0; y < height; y++) {
    const place = Math.min(Math.max((y + 0.5) * down / height - 0.5, 0), down - 1);
    const above = Math.floor(place), below = Math.min(above + 1, down - 1), way = place - above;
    for (let i = 0; i < across; i++) {
      const u = above * across + i, v = below * across + i;
      rowA[i] = (ab[u] + (ab[v] - ab[u]) * way + reach) * scaleA;
      rowB[i] = (ab[plane + u] + (ab[plane + v] - ab[plane + u]) * way + reach) * scaleB;
    }
    for (let x = 0; x < width; x++, p++) {
      const i = left[x], j = right[x], s = share[x];
      const a = rowA[i] + (rowA[j] - rowA[i]) * s, b = rowB[i] + (rowB[j] - rowB[i]) * s;
      const ia = Math.min(Math.max(a | 0, 0), pointsA - 2), ib = Math.min(Math.max(b | 0, 0), pointsB - 2);
      const fa = a - ia, fb = b - ib, w00 = (1 - fa) * (1 - fb), w01 = (1 - fa) * fb, w10 = fa * (1 - fb), w11 = fa * fb;
      const q = lightness[p] * strideL + ia * strideA + ib * 3, r = q + strideA, o = 4 * p;
      out[o] = table[q] * w00 + table[q + 3] * w01 + table[r] * w10 + table[r + 3] * w11;
      out[o + 1] = table[q + 1] * w00 + table[q + 4] * w01 + table[r + 1] * w10 + table[r + 4] * w11;
      out[o + 2] = table[q + 2] * w00 + table[q + 5] * w01 + table[r + 2] * w10 + table[r + 5] * w11;
      out[o + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
}

function paintPhoto(canvas, photo, { ab, size }) {
  paint(canvas, photo.lightness, ...photo.preview, ab, ...size);
}

function query(colors) {
  return new URLSearchParams(Object.entries(colors).map(([key, value]) => [key, String(value)])).toString();
}

async function colorsOf(photo, colors) {
  const answer = await ask(`photos/${photo.key}/colors?${query(colors)}`);
  return { ab: new Float32Array(await answer.arrayBuffer()), size: answer.headers.get("Colors-Size").split(" ").map(Number) };
}

// Where colours are led, as words of a query; none where they stay as they are.
function steering() {
  const words = {}, bias = Number($("bias").value);
  if (reference) Object.assign(words, { reference: reference.key, transfer: $("transfer").value });
  if (bias && !$("bias").disabled) words.bias = bias;
  return words;
}

async function pixelsOf(url) {
  const blob = await (await ask(url)).blob();
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height), context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const rgba = context.getImageData(0, 0, bitmap.width, bitmap.height).data, gray = new Uint8Array(rgba.length / 4);
  for (let p = 0; p < gray.length; p++) gray[p] = rgba[4 * p];
  return gray;
}

// The newest wish counts: while one is on its way, later ones wait, and only the last of them is asked for.
let asking = false, waiting = null;
async function show(colors) {
  chosen = colors;
  if (asking) { waiting = colors; return; }
  asking = true;
  try {
    const photo = current, began = performance.now(), wished = { ...colors, ...steering() };
    const found = await colorsOf(photo, wished);
    if (photo === current) {
      paintPhoto($("after"), photo, found);
      $("after").dataset.milliseconds = (performance.now() - began).toFixed(1);
      $("after").dataset.colors = query(wished);
      $("download").href = `photos/${photo.key}/painted?${query(wished)}`;
      $("download").download = `${photo.name.replace(/\.[^.]*$/, "")}-colorized.png`;
    }
  } catch (error) {
    complain(error.message);
  } finally {
    asking = false;
    if (waiting) { const next = waiting; waiting = null; show(next); }
  }
}

function byRule() {
  const rule = $("rule").value;
  return $("temperature").disabled ? { rule } : { rule, temperature: Number($("temperature").value) };
}

function showByRule() {
  for (const input of $("samples").querySelectorAll("input")) input.checked = false;
  $("undraw").disabled = true;
  if (current) show(byRule());
}

// The temperature is that of the annealed mean. A model without one has a rule of its own in its place.
function ruleChanged() {
  const own = $("rule").value === "annealed", tempered = own && model.temperature !== null;
  $("temperature").disabled = !tempered;
  $("temperature-value").textContent = tempered ? Number($("temperature").value).toFixed(2) : "–";
  $("temperature-hint").textContent = tempered
    ? "Low: vivid, the most likely colour. High: muted, the mean of all likely ones."
    : !model.rules.length ? "This model predicts one colour per pixel, which leaves no choice."
      : model.temperature === null ? "This model's colours are chosen without a temperature."
        : "The temperature is that of the annealed mean.";
}

function split() {
  const share = Number($("split").value);
  $("before").style.clipPath = `inset(0 ${100 - share}% 0 0)`;
  $("line").style.left = `${share}%`;
  $("split").setAttribute("aria-valuetext", `${share} % in black and white`);
}

async function showUncertainty(isOld) {
  if (!model.rules.length) return;
  const answer = await ask(`photos/${current.key}/uncertainty?${query(steering())}`);
  const [low, high] = answer.headers.get("Entropy").split(" ").map(Number), picture = await answer.blob();
  if (isOld()) return;
  URL.revokeObjectURL($("uncertainty").src);
  $("uncertainty").src = URL.createObjectURL(picture);
  $("uncertainty-hint").textContent = `White where they are least certain: from ${low.toFixed(1)} to ${high.toFixed(1)} bits.`;
}

async function select(photo) {
  current = photo;
  $("shown").hidden = false;
  paintPhoto($("before"), photo, { ab: new Float32Array(2 * photo.colors[0] * photo.colors[1]), size: photo.colors });
  $("samples").hidden = true;
  $("samples").replaceChildren();
  samples = [];
  $("undraw").disabled = true;
  split();
  await Promise.all([show(byRule()), steerTheRest()]);
}

// What is not the photo itself waits until a slider is let go.
let round = 0;
async function steerTheRest() {
  const photo = current, own = ++round, isOld = () => own !== round;
  try {
    await showUncertainty(isOld);
    for (const { colors, canvas } of samples) {
      const found = await colorsOf(photo, { ...colors, ...steering() });
      if (isOld()) return;
      paintPhoto(canvas, photo, found);
    }
  } catch (error) {
    complain(error.message);
  }
}

function steeringChanged() {
  $("reference-shown").hidden = $("no-reference").hidden = !reference;
  $("transfer").disabled = !reference;
  const turns = model.hue || (reference && $("transfer").value === "quantile");
  $("bias").disabled = !turns;
  $("bias-hint").textContent = turns
    ? "To the right from red to yellow, green and blue; to the left the other way."
    : "This model predicts no hues; those of a reference can be turned, if its colours are taken by quantiles.";
  sayBias();
  if (!current) return;
  show(chosen);
  steerTheRest();
}

function sayBias() {
  const degrees = $("bias").disabled ? 0 : Number($("bias").value);
  $("bias-value").textContent = $("bias").disabled ? "–" : `${degrees}°`;
  $("bias").setAttribute("aria-valuetext", `${degrees} degrees`);
}

async function refer(file) {
  $("errors").replaceChildren();
  $("status").textContent = `Reading ${file.name}…`;
  try {
    const headers = { "Content-Type": "application/octet-stream", "X-Name": encodeURIComponent(file.name) };
    reference = await (await ask("references", { method: "POST", body: file, headers })).json();
    URL.revokeObjectURL($("reference-shown").src);
    $("reference-shown").src = URL.createObjectURL(file);
    $("reference-shown").alt = `The reference, ${file.name}`;
    $("status").textContent = `Colours are taken from ${file.name}.`;
    steeringChanged();
  } catch (error) {
    $("status").textContent = "";
    complain(`${file.name}: ${error.message}`);
  }
}

async function drawOthers() {
  const photo = current, base = wish += 4;
  $("draw").disabled = true;
  try {
    const options = await Promise.all([0, 1, 2, 3].map(async (number) => {
      const colors = { rule: "coherent", seed: base + number };
      return [colors, await colorsOf(photo, { ...colors, ...steering() })];
    }));
    if (photo !== current) return;
    samples = [];
    $("samples").replaceChildren(...options.map(([colors, found], number) => {
      const label = document.createElement("label"), input = document.createElement("input"), canvas = document.createElement("canvas");
      Object.assign(input, { type: "radio", name: "sample" });
      input.setAttribute("aria-label", `Colouring ${number + 1}`);
      input.addEventListener("change", () => { $("undraw").disabled = false; show(colors); });
      paintPhoto(canvas, photo, found);
      samples.push({ colors, canvas });
      label.append(input, canvas);
      return label;
    }));
    $("samples").hidden = false;
  } catch (error) {
    complain(error.message);
  } finally {
    $("draw").disabled = !model.rules.length;
  }
}

async function add(files) {
  $("errors").replaceChildren();
  let number = 0;
  for (const file of files) {
    number += 1;
    $("status").textContent = `Colouring ${file.name} (${number} of ${files.length})…`;
    try {
      const headers = { "Content-Type": "application/octet-stream", "X-Name": encodeURIComponent(file.name) };
      const photo = await (await ask("photos", { method: "POST", body: file, headers })).json();
      photo.lightness = await pixelsOf(`photos/${photo.key}/lightness`);
      photos.push(photo);
      const label = document.createElement("label"), input = document.createElement("input"), canvas = document.createElement("canvas");
      Object.assign(input, { type: "radio", name: "photo" });
      input.setAttribute("aria-label", photo.name);
      input.addEventListener("change", () => select(photo));
      paintPhoto(canvas, photo, await colorsOf(photo, { rule: "annealed" }));
      label.append(input, canvas);
      $("photos").append(label);
      $("photos").hidden = photos.length < 2;
      input.checked = true;
      await select(photo);
    } catch (error) {
      complain(`${file.name}: ${error.message}`);
    }
  }
  $("status").textContent = photos.length ? `${photos.length} ${photos.length === 1 ? "photo is" : "photos are"} coloured.` : "";
}

async function begin() {
  model = await (await ask("model")).json();
  table = expand(new Uint8Array(await (await ask("table")).arrayBuffer()));
  $("model").textContent = `Model: ${model.title}`;
  for (const id of ["show-uncertainty", "draw"]) $(id).disabled = !model.rules.length;
  const rules = model.rules.length ? Object.keys(RULES).filter((rule) => model.rules.includes(rule)) : ["annealed"];
  const named = (rule) => rule === "annealed" && model.temperature === null ? OWN : RULES[rule];
  $("rule").append(...rules.map((rule) => new Option(named(rule), rule)));
  $("rule").disabled = rules.length < 2;
  if (model.temperature !== null) $("temperature").value = model.temperature;
  ruleChanged();
  $("rule").addEventListener("change", () => { ruleChanged(); showByRule(); });
  $("temperature").addEventListener("input", () => { ruleChanged(); showByRule(); });
  $("split").addEventListener("input", split);
  for (const kind of ["pointerdown", "pointermove"]) {
    $("stage").addEventListener(kind, (event) => {
      if (!event.buttons) return;
      const box = $("stage").getBoundingClientRect();
      $("split").value = 100 * (event.clientX - box.left) / box.width;
      split();
    });
  }
  const predicts = $("transfer").querySelector("[value=energy]");
  predicts.disabled = !model.rules.length;
  if (!model.rules.length) $("transfer").value = "quantile";
  steeringChanged();
  $("bias").addEventListener("input", () => { sayBias(); show(chosen); });
  $("bias").addEventListener("change", steerTheRest);
  $("transfer").addEventListener("change", steeringChanged);
  $("reference").addEventListener("change", (event) => { const [file] = event.target.files; event.target.value = ""; if (file) refer(file); });
  $("no-reference").addEventListener("click", () => { reference = null; steeringChanged(); $("reference").focus(); });
  $("show-uncertainty").addEventListener("change", (event) => { $("uncertainty").hidden = !event.target.checked; });
  $("draw").addEventListener("click", drawOthers);
  $("undraw").addEventListener("click", showByRule);
  $("files").addEventListener("change", (event) => { const files = [...event.target.files]; event.target.value = ""; add(files); });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      const files = [...event.dataTransfer.files], onReference = $("steering").contains(event.target);
      $("drop").classList.toggle("over", kind === "dragover" && !onReference);
      $("steering").classList.toggle("over", kind === "dragover" && onReference);
      if (kind !== "drop" || !files.length) return;
      if (onReference) refer(files[0]); else add(files);
    });
  }
  document.body.dataset.ready = "yes";
}

begin().catch((error) => complain(error.message));
