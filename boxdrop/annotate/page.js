"use strict";
(() => {
  const meta = JSON.parse(document.getElementById("meta").textContent);
  const $ = (id) => document.getElementById(id);
  const number = new Intl.NumberFormat("en");
  const percentless = (thousandths) => (thousandths / 1000).toFixed(2);

  /* ---- data: one object an image; boxes are flat, six numbers each: label, score × 1000, x1, y1, x2, y2 ---- */
  const STRIDE = 6;
  const images = [];
  const labels = meta.labels;
  for (const label of labels) label.ink = inkOn(label.color);

  function inkOn(color) {
    const [r, g, b] = [1, 3, 5].map((i) => {
      const value = parseInt(color.slice(i, i + 2), 16) / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.3 ? "#000" : "#fff";
  }

  globalThis.boxdrop = {
    add(rows) {
      for (const [name, id, width, height, boxes, extra, more] of rows) {
        const image = { name, id, width, height, boxes, at: images.length, found: 0, low: 2000, lower: null };
        if (boxes === null) Object.assign(image, { boxes: [], reason: extra, message: more });
        else Object.assign(image, { extra, display: more });
        images.push(image);
      }
    },
  };

  /* ---- what is chosen ---- */
  const chosen = { labels: new Set(), mode: "all", text: "", score: 0, sort: "run" };
  const MODES = [["all", "All"], ["with", "With boxes"], ["without", "Without"], ["failed", "Failed"]];
  const FIRST_SCORE = Math.floor(meta.lowest * 100) / 100;
  let view = [];
  let nameRank = null;

  function select() {
    const counts = new Uint32Array(labels.length);
    const tally = { all: 0, with: 0, without: 0, failed: 0 };
    const least = Math.round(chosen.score * 1000);
    const some = chosen.labels.size > 0;
    const wanted = labels.map((_, i) => !some || chosen.labels.has(i));
    const text = chosen.text.toLowerCase();
    view = [];
    let shownBoxes = 0;
    for (const image of images) {
      const { boxes } = image;
      let found = 0;
      let low = 2000;
      for (let i = 0; i < boxes.length; i += STRIDE) {
        if (boxes[i + 1] < least) continue;
        counts[boxes[i]]++;
        if (!wanted[boxes[i]]) continue;
        found++;
        if (boxes[i + 1] < low) low = boxes[i + 1];
      }
      image.found = found;
      image.low = low;
      if (text) {
        image.lower ??= image.name.toLowerCase();
        if (!image.lower.includes(text)) continue;
      }
      const kind = image.reason ? "failed" : found ? "with" : "without";
      if (some && kind === "failed") continue;
      tally[kind]++;
      if (some && chosen.mode === "all" && kind !== "with") continue;
      if (chosen.mode !== "all" && chosen.mode !== kind) continue;
      view.push(image);
      shownBoxes += found;
    }
    tally.all = some ? tally.with : tally.with + tally.without + tally.failed;
    order();
    return { counts, tally, shownBoxes };
  }

  function order() {
    if (chosen.sort === "name") {
      if (nameRank?.length !== images.length) {
        const collator = new Intl.Collator("en", { numeric: true });
        const sorted = [...images].sort((a, b) => collator.compare(a.name, b.name));
        nameRank = new Uint32Array(images.length);
        sorted.forEach((image, rank) => { nameRank[image.at] = rank; });
      }
      view.sort((a, b) => nameRank[a.at] - nameRank[b.at]);
    } else if (chosen.sort === "most") view.sort((a, b) => b.found - a.found || a.at - b.at);
    else if (chosen.sort === "fewest") view.sort((a, b) => a.found - b.found || a.at - b.at);
    else if (chosen.sort === "unsure") view.sort((a, b) => a.low - b.low || a.at - b.at);
  }

  /* ---- elements ---- */
  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }
  const SVG = "http://www.w3.org/2000/svg";
  function shape(name, attributes) {
    const made = document.createElementNS(SVG, name);
    for (const key in attributes) made.setAttribute(key, attributes[key]);
    return made;
  }
  function fraction(part, whole) {
    return `${(100 * part) / whole}%`;
  }

  function fillCounts() {
    const { counts } = meta;
    const cells = [["images", counts.images], ["with boxes", counts.with_boxes], ["boxes", counts.boxes]];
    if (counts.failures) cells.push(["failed", counts.failures, "bad"]);
    for (const [name, value, className] of cells) {
      const cell = element("div", className);
      cell.append(element("dt", "", name), element("dd", "", number.format(value)));
      $("counts").append(cell);
    }
  }

  const LABELS_AT_FIRST = innerWidth <= 720 ? 6 : 18;
  const labelButtons = [];
  function fillLabels() {
    $("labels").style.setProperty("--labels", labels.length);
    const places = labels.map((_, i) => i);
    if (labels.length > LABELS_AT_FIRST) places.sort((a, b) => labels[b].boxes - labels[a].boxes || a - b);
    for (const [place, i] of places.entries()) {
      const label = labels[i];
      const button = element("button", "label");
      button.type = "button";
      button.style.setProperty("--color", label.color);
      button.setAttribute("aria-pressed", "false");
      button.title = `Show only ${label.name}`;
      const chart = shape("svg", { viewBox: `0 0 ${label.bins.length} 10`, preserveAspectRatio: "none", "aria-hidden": "true" });
      const top = Math.max(1, ...label.bins);
      label.bins.forEach((count, bin) => {
        const height = count ? Math.max(0.6, (10 * count) / top) : 0;
        chart.append(shape("rect", { x: bin + 0.08, y: 10 - height, width: 0.84, height }));
      });
      const count = element("em", "", "0");
      button.append(element("i"), element("b", "", label.name), count, chart);
      button.addEventListener("click", () => {
        if (!chosen.labels.delete(i)) chosen.labels.add(i);
        if (chosen.mode === "failed") chosen.mode = "all";
        update();
      });
      button.hidden = place >= LABELS_AT_FIRST;
      labelButtons[i] = { button, count, bars: [...chart.children] };
      $("labels").append(button);
    }
    const more = $("more-labels");
    more.hidden = labels.length <= LABELS_AT_FIRST;
    more.textContent = `Show all ${labels.length} labels`;
    more.addEventListener("click", () => {
      for (const { button } of labelButtons) button.hidden = false;
      more.hidden = true;
    });
  }

  const modeButtons = new Map();
  function fillModes() {
    for (const [mode, name] of MODES) {
      if (mode === "failed" && !meta.counts.failures) continue;
      const button = element("button", "", name);
      button.type = "button";
      const count = element("span");
      button.append(count);
      button.addEventListener("click", () => {
        chosen.mode = mode;
        if (mode === "failed") chosen.labels.clear();
        update();
      });
      modeButtons.set(mode, { button, count });
      $("modes").append(button);
    }
  }

  /* ---- a picture with its boxes ---- */
  function visibleBoxes(image) {
    const least = Math.round(chosen.score * 1000);
    const some = chosen.labels.size > 0;
    const visible = [];
    for (let i = 0; i < image.boxes.length; i += STRIDE) {
      if (image.boxes[i + 1] < least || (some && !chosen.labels.has(image.boxes[i]))) continue;
      visible.push(i);
    }
    return visible;
  }

  function draw(pic, image, tags) {
    const { width, height, boxes } = image;
    const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    const visible = visibleBoxes(image);
    for (const i of [...visible].reverse()) { // the best score on top
      const [x1, y1, x2, y2] = boxes.slice(i + 2, i + STRIDE);
      const group = shape("g", { "data-box": i / STRIDE });
      group.style.setProperty("--color", labels[boxes[i]].color);
      const place = { x: x1, y: y1, width: x2 - x1, height: y2 - y1, rx: 0 };
      group.append(shape("rect", { ...place, class: "halo" }), shape("rect", place));
      svg.append(group);
    }
    pic.append(svg);
    for (const i of visible.slice(0, tags).reverse()) {
      const label = labels[boxes[i]];
      const tag = element("span", "tag", `${label.name} ${percentless(boxes[i + 1])}`);
      tag.dataset.box = i / STRIDE;
      tag.style.setProperty("--color", label.color);
      tag.style.setProperty("--ink", label.ink);
      const left = boxes[i + 2] / width;
      if (left < 0.6) tag.style.left = fraction(boxes[i + 2], width);
      else tag.style.right = fraction(width - boxes[i + 4], width);
      tag.style.top = fraction(boxes[i + 3], height);
      if (boxes[i + 3] / height > 0.1) tag.style.transform = "translateY(-100%)";
      pic.append(tag);
    }
  }

  const thumbnail = (image) => `thumbnails/${image.id.slice(0, 2)}/${image.id}.jpg`;

  /* File names are bytes: those that are not UTF-8 arrive as lone surrogates U+DC80 to U+DCFF. */
  function original(image) {
    if (meta.originals === null) return null;
    const quoted = image.name.replace(/[\ud800-\udbff][\udc00-\udfff]|[\udc80-\udcff]|[^/]/g, (character) => {
      const code = character.charCodeAt(0);
      if (character.length === 1 && code >= 0xdc80 && code <= 0xdcff) return `%${(code - 0xdc00).toString(16)}`;
      try { return encodeURIComponent(character); } catch { return "%EF%BF%BD"; }
    });
    return meta.originals + quoted;
  }

  /* ---- the grid: rows of equal height; only those near the window are in the document ---- */
  const CAPTION = 30;
  const MOST_PRINTED = 300;
  let rows = [];
  const drawn = new Map();
  const gapOf = () => (innerWidth <= 720 ? 8 : 12);

  function aspect(image) {
    const real = image.width && image.height ? image.width / image.height : 4 / 3;
    return { real, held: Math.min(3.2, Math.max(0.6, real)) };
  }

  function layout() {
    const width = $("grid").clientWidth || 1;
    const gap = gapOf();
    const target = innerWidth <= 720 ? 150 : 215;
    rows = [];
    let sum = 0;
    let first = 0;
    let top = 0;
    const close = (end, height, filler) => {
      rows.push({ first, end, top, height: height + CAPTION, filler });
      top += height + CAPTION + gap;
      first = end;
      sum = 0;
    };
    for (let i = 0; i < view.length; i++) {
      sum += aspect(view[i]).held;
      const free = width - gap * (i - first);
      if (sum * target >= free) close(i + 1, free / sum, 0);
    }
    if (first < view.length) {
      const free = width - gap * (view.length - first); // one gap more, before the filler
      const rest = Math.max(0, free / target - sum);
      close(view.length, rest ? target : free / sum, rest);
    }
    $("grid").style.height = `${top}px`;
    for (const row of drawn.values()) row.remove();
    drawn.clear();
    render();
  }

  let printing = false;
  function render() {
    const all = printing;
    const box = $("grid").getBoundingClientRect();
    const from = all ? 0 : -box.top - 700;
    const to = all ? Infinity : innerHeight - box.top + 700;
    let low = 0;
    let high = rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (rows[middle].top + rows[middle].height < from) low = middle + 1;
      else high = middle;
    }
    let end = low;
    while (end < rows.length && rows[end].top <= to && !(all && rows[end].first >= MOST_PRINTED)) end++;
    for (const [number, row] of drawn) {
      if ((number < low || number >= end) && !row.contains(document.activeElement)) {
        row.remove();
        drawn.delete(number);
      }
    }
    for (let i = low; i < end; i++) {
      if (drawn.has(i)) continue;
      const row = makeRow(rows[i]);
      const next = [...drawn.keys()].filter((other) => other > i);
      $("grid").insertBefore(row, next.length ? drawn.get(Math.min(...next)) : null);
      drawn.set(i, row);
    }
  }

  function makeRow({ first, end, top, filler }) {
    const row = element("div", "row");
    row.style.top = `${top}px`;
    for (let i = first; i < end; i++) row.append(makeCard(view[i], i));
    if (filler) {
      const rest = element("span");
      rest.style.flex = `${filler} 1 0`;
      row.append(rest);
    }
    return row;
  }

  function makeCard(image, at) {
    const { real, held } = aspect(image);
    const card = element("button", image.reason ? "card failed" : "card");
    card.type = "button";
    card.dataset.at = at;
    card.style.flexGrow = held;
    const frame = element("span", "frame");
    frame.style.aspectRatio = held;
    const caption = element("span", "caption");
    const name = element("span", "", image.name.slice(image.name.lastIndexOf("/") + 1));
    const facts = image.reason ? "failed" : image.found === 1 ? "1 box" : image.found ? `${number.format(image.found)} boxes` : "no boxes";
    caption.append(name, element("span", "", facts));
    card.title = image.name;
    card.setAttribute("aria-label", `${image.name}, ${image.reason ? `failed: ${image.message}` : facts}`);
    if (image.reason) frame.append(element("span", "", image.reason.replaceAll("_", " ")));
    else {
      const pic = element("span", "pic");
      pic.style.width = real >= held ? "100%" : fraction(real, held);
      pic.style.height = real >= held ? fraction(held, real) : "100%";
      pic.append(makeImg(thumbnail(image)));
      draw(pic, image, 40);
      frame.append(pic);
    }
    card.append(frame, caption);
    return card;
  }

  function makeImg(source) {
    const img = element("img");
    img.alt = "";
    img.decoding = "async";
    img.addEventListener("error", () => img.classList.add("gone"));
    img.src = source;
    return img;
  }

  function focusCard(at) {
    const row = rows.findIndex(({ end }) => at < end);
    if (row < 0) return;
    const top = $("grid").getBoundingClientRect().top + scrollY + rows[row].top;
    if (top < scrollY + 70 || top + rows[row].height > scrollY + innerHeight) scrollTo({ top: top - innerHeight / 3 });
    render();
    drawn.get(row)?.children[at - rows[row].first]?.focus({ preventScroll: true });
  }

  function above(at, steps) {
    const row = rows.findIndex(({ end }) => at < end);
    const other = rows[row + steps];
    return other ? Math.min(other.end - 1, other.first + (at - rows[row].first)) : at;
  }

  /* ---- failures ---- */
  let failuresShown = 200;
  function fillFailures() {
    const body = $("failure-rows");
    body.replaceChildren();
    for (const image of view.slice(0, failuresShown)) {
      const row = element("tr");
      const reason = element("td");
      reason.append(element("code", "", image.reason));
      const size = image.width && image.height ? `${number.format(image.width)} × ${number.format(image.height)}` : "–";
      row.append(element("td", "", image.name), reason, element("td", "", image.message), element("td", "number", size));
      body.append(row);
    }
    $("more-failures").hidden = view.length <= failuresShown;
  }

  /* ---- everything that follows a change ---- */
  let waiting = false;
  function update() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      show();
    });
  }

  function show() {
    const { counts, tally, shownBoxes } = select();
    const bins = labels[0]?.bins.length ?? 1;
    for (const [i, { button, count, bars }] of labelButtons.entries()) {
      count.textContent = number.format(counts[i]);
      button.setAttribute("aria-pressed", chosen.labels.has(i));
      button.classList.toggle("none", !labels[i].boxes);
      bars.forEach((bar, bin) => bar.classList.toggle("under", (bin + 1) / bins <= chosen.score + 1e-9));
    }
    for (const [mode, { button, count }] of modeButtons) {
      button.setAttribute("aria-pressed", mode === chosen.mode);
      count.textContent = number.format(tally[mode]);
    }
    $("score").value = chosen.score;
    $("score-value").textContent = chosen.score.toFixed(2);
    $("search").value = chosen.text;
    const failed = chosen.mode === "failed";
    const filtered = chosen.labels.size > 0 || chosen.mode !== "all" || chosen.text !== "" || chosen.score > FIRST_SCORE;
    const loading = images.length < meta.counts.images ? ` · loading, ${number.format(images.length)} of ${number.format(meta.counts.images)} so far` : "";
    const what = view.length === 1 ? "1 image" : `${number.format(view.length)} images`;
    const boxes = shownBoxes === 1 ? "1 box" : `${number.format(shownBoxes)} boxes`;
    $("shown").textContent = (failed ? what : `${what}, ${boxes}`) + loading;
    $("clear").hidden = !filtered;
    $("grid").hidden = failed;
    $("failures").hidden = !failed || !view.length;
    if (failed) {
      failuresShown = 200;
      fillFailures();
    }
    showEmpty(view.length === 0 && !loading, filtered);
    layout();
  }

  function showEmpty(empty, filtered) {
    $("empty").hidden = !empty;
    if (!empty) return;
    const icon = shape("svg", { viewBox: "0 0 24 24", fill: "none", "stroke-width": 1.5, "aria-hidden": "true" });
    icon.append(shape("path", { d: "M3 8V5a2 2 0 0 1 2-2h3M16 3h3a2 2 0 0 1 2 2v3M21 16v3a2 2 0 0 1-2 2h-3M8 21H5a2 2 0 0 1-2-2v-3M9 9l6 6M15 9l-6 6" }));
    const title = filtered ? "Nothing matches" : "No images";
    const hint = filtered ? "Choose other labels, a lower score, or clear the filters." : "The run found no images to look at.";
    $("empty").replaceChildren(icon, element("h2", "", title), element("p", "", hint));
  }

  /* ---- one image, large ---- */
  const viewer = $("viewer");
  let current = -1;

  /* The page behind does not scroll, nor move as its scroll bar goes. */
  function holdPage(hold) {
    const root = document.documentElement;
    document.body.style.paddingRight = hold ? `${innerWidth - root.clientWidth}px` : "";
    root.style.overflow = hold ? "hidden" : "";
  }

  function openViewer(at) {
    current = at;
    if (!viewer.open) {
      holdPage(true);
      viewer.showModal();
    }
    const image = view[at];
    $("viewer-name").textContent = image.name;
    const size = image.width && image.height ? `${number.format(image.width)} × ${number.format(image.height)}` : "";
    $("viewer-facts").textContent = size;
    $("viewer-place").textContent = `${number.format(at + 1)} of ${number.format(view.length)}`;
    $("previous").disabled = at === 0;
    $("next").disabled = at === view.length - 1;
    const link = original(image);
    $("viewer-original").hidden = link === null;
    if (link !== null) $("viewer-original").href = link;
    const pic = $("viewer-pic");
    pic.replaceChildren();
    fillFound(image);
    if (image.reason) {
      pic.style.cssText = "";
      return;
    }
    pic.append(makeImg(thumbnail(image)));
    showFullSize(pic, image);
    draw(pic, image, 200);
    fit();
    for (const near of [view[at + 1], view[at - 1]]) {
      const source = near && !near.reason && fullSize(near);
      if (source) new Image().src = source;
    }
  }

  /* The original, or its upright copy where browsers show other pixels than the detector saw: by the rule of
     boxdrop/domain/browsers.py, not by what this browser makes of it. */
  const fullSize = (image) => image.display ?? original(image);

  /* It takes the thumbnail's place, unless it has another size: the file may have been replaced since. */
  function showFullSize(pic, image) {
    const source = fullSize(image);
    if (source === null) return;
    const img = element("img");
    img.alt = "";
    img.src = source;
    img.decode().then(() => {
      if (view[current] !== image || img.naturalWidth !== image.width || img.naturalHeight !== image.height) return;
      pic.firstChild.replaceWith(img);
      fit();
    }, () => {});
  }

  function fit() {
    const image = view[current];
    if (!viewer.open || !image || image.reason) return;
    const stage = $("stage");
    const scale = Math.min((stage.clientWidth - 24) / image.width, (stage.clientHeight - 24) / image.height);
    const pic = $("viewer-pic");
    pic.style.width = `${Math.max(1, image.width * scale)}px`;
    pic.style.height = `${Math.max(1, image.height * scale)}px`;
    pic.firstChild.classList.toggle("coarse", scale > 3);
  }

  function fillFound(image) {
    const list = $("viewer-found");
    list.replaceChildren();
    list.scrollTop = 0;
    const visible = visibleBoxes(image);
    if (image.reason) list.append(element("li", "none", `${image.reason}: ${image.message}`));
    else if (!visible.length) {
      list.append(element("li", "none", image.boxes.length ? "No boxes under these filters." : "No boxes in this image."));
    }
    for (const i of visible) {
      const label = labels[image.boxes[i]];
      const item = element("li");
      item.tabIndex = 0;
      item.style.setProperty("--color", label.color);
      item.style.setProperty("--score", `${image.boxes[i + 1] / 10}%`);
      const line = element("div");
      line.append(element("i"), element("b", "", label.name), element("em", "", percentless(image.boxes[i + 1])));
      item.append(line, element("u"));
      const [prompt, also] = image.extra?.[i / STRIDE] ?? [null, []];
      if (prompt) item.append(element("p", "", `found as “${prompt}”`));
      if (also.length) {
        item.append(element("p", "", `also ${also.map(([name, score]) => `${name} ${percentless(score)}`).join(", ")}`));
      }
      const light = (on) => {
        for (const drawn of viewer.querySelectorAll("[data-box]")) {
          const mine = Number(drawn.dataset.box) === i / STRIDE;
          drawn.classList.toggle("hot", on && mine);
          drawn.classList.toggle("cold", on && !mine);
        }
      };
      item.addEventListener("pointerenter", () => light(true));
      item.addEventListener("pointerleave", () => light(false));
      item.addEventListener("focus", () => light(true));
      item.addEventListener("blur", () => light(false));
      list.append(item);
    }
  }

  function step(by) {
    const at = current + by;
    if (at >= 0 && at < view.length) openViewer(at);
  }

  /* ---- events ---- */
  function listen() {
    const score = $("score");
    score.min = FIRST_SCORE;
    score.max = 1;
    score.disabled = !meta.counts.boxes;
    chosen.score = FIRST_SCORE;
    score.addEventListener("input", () => { chosen.score = Number(score.value); update(); });
    $("search").addEventListener("input", () => { chosen.text = $("search").value; update(); });
    $("sort").addEventListener("change", () => { chosen.sort = $("sort").value; update(); });
    $("names").addEventListener("change", () => document.body.classList.toggle("names", $("names").checked));
    $("tools").addEventListener("submit", (event) => event.preventDefault());
    $("clear").addEventListener("click", () => {
      chosen.labels.clear();
      Object.assign(chosen, { mode: "all", text: "", score: FIRST_SCORE });
      update();
    });
    $("more-failures").addEventListener("click", () => { failuresShown += 500; fillFailures(); });
    $("grid").addEventListener("click", (event) => {
      const card = event.target.closest(".card");
      if (card) openViewer(Number(card.dataset.at));
    });
    $("grid").addEventListener("keydown", (event) => {
      const card = event.target.closest(".card");
      if (!card) return;
      const at = Number(card.dataset.at);
      const moves = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: above(at, 1), ArrowUp: above(at, -1), Home: 0, End: view.length - 1 };
      const to = moves[event.key];
      if (to === undefined || to < 0 || to >= view.length) return;
      event.preventDefault();
      focusCard(to);
    });
    let rendering = false;
    addEventListener("scroll", () => {
      if (rendering) return;
      rendering = true;
      requestAnimationFrame(() => { rendering = false; render(); });
    }, { passive: true });
    let width = 0;
    new ResizeObserver(() => {
      if ($("grid").clientWidth !== width) {
        width = $("grid").clientWidth;
        layout();
      }
    }).observe($("grid"));
    addEventListener("resize", () => { render(); fit(); });
    const print = (on) => () => { printing = on; render(); };
    addEventListener("beforeprint", print(true));
    addEventListener("afterprint", print(false));
    $("viewer-close").addEventListener("click", () => viewer.close());
    $("previous").addEventListener("click", () => step(-1));
    $("next").addEventListener("click", () => step(1));
    $("viewer-boxes").addEventListener("change", () => viewer.classList.toggle("no-boxes", !$("viewer-boxes").checked));
    viewer.addEventListener("keydown", (event) => {
      if (event.key === "ArrowRight") step(1);
      else if (event.key === "ArrowLeft") step(-1);
      else if (event.key === "b") $("viewer-boxes").click();
      else return;
      event.preventDefault();
    });
    viewer.addEventListener("close", () => {
      holdPage(false);
      focusCard(current);
    });
  }

  function load(next) {
    if (next === meta.chunks.length) {
      document.body.dataset.loaded = "yes";
      update();
      return;
    }
    const script = element("script");
    script.src = meta.chunks[next];
    script.addEventListener("load", () => {
      if (next < 2 || next % 10 === 0) update();
      load(next + 1);
    });
    script.addEventListener("error", () => {
      const notice = element("p", "notice", `${meta.chunks[next]} cannot be loaded: keep the folder beside this page.`);
      $("notice").after(notice);
      load(next + 1);
    });
    document.head.append(script);
  }

  fillCounts();
  fillLabels();
  fillModes();
  listen();
  show();
  load(0);
})();
