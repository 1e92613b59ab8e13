const data = JSON.parse(document.getElementById("turns").textContent);
const field = name => document.getElementById(`errors-${name}`);
const list = field("list"), player = new Audio(), all = [...data.text.keys()];
let limit = 5;
const make = (tag, kind, text) => Object.assign(document.createElement(tag), { className: kind, textContent: text });
const counted = i => data.target[i] !== null && model().predicted[i] !== null;
const model = () => data.models[field("model").value];
const wrong = i => model().predicted[i] !== data.target[i];

function chip(number) {
  const made = make("span", "chip", data.classes[number]);
  made.style.setProperty("--hue", data.colours[number]);
  return made;
}

function turn(i, kind) {
  const made = make("p", kind, ""), sound = data.sound[i];
  if (sound) {
    const button = make("button", "play", "▶");
    button.type = "button";
    button.ariaLabel = "play this turn";
    button.addEventListener("click", () => {
      player.src = data.folder + sound;
      player.play().catch(() => { field("state").textContent = `${player.src} cannot be played; dvc repro creates it.`; });
    });
    made.append(button, " ");
  }
  if (data.speaker[i] !== null) made.append(make("strong", "", data.speakers[data.speaker[i]] + ": "));
  made.append(data.text[i] ?? "(no words)");
  return made;
}

function item(i) {
  const made = make("li", "", ""), own = model(), missed = own.runs - own.right[i];
  made.style.setProperty("--hue", data.colours[data.target[i]]);
  const head = make("p", "", ""), others = Object.values(data.models);
  const fooled = others.filter(each => each.predicted[i] !== data.target[i]).length;
  head.append("true ", chip(data.target[i]), " predicted ", chip(own.predicted[i]),
    make("small", "", ` in most runs; ${missed} of ${own.runs} wrong; ${fooled} of ${others.length} models wrong`));
  made.append(head);
  for (let j = i - 2; j <= i + 1; j++) {
    if (data.dialogue[j] === data.dialogue[i]) made.append(turn(j, j === i ? "asked" : "context"));
  }
  return made;
}

function fill(name, names, of) {
  const select = field(name), before = select.value || "";
  const rows = names.map((each, number) => {
    const own = all.filter(i => counted(i) && of(i) === number);
    return [number, `${each} (${own.filter(wrong).length} of ${own.length} wrong)`];
  });
  select.replaceChildren(new Option("any", ""), ...rows.map(([number, text]) => new Option(text, number)));
  select.value = before;
}

function show() {
  fill("true", data.classes, i => data.target[i]);
  fill("speaker", data.speakers, i => data.speaker[i]);
  const wanted = (name, value) => field(name).value === "" || Number(field(name).value) === value;
  const found = all.filter(i => counted(i) && wrong(i) && wanted("true", data.target[i])
    && wanted("predicted", model().predicted[i]) && wanted("speaker", data.speaker[i]));
  found.sort((a, b) => model().right[a] - model().right[b] || a - b);
  list.replaceChildren(...found.slice(0, limit).map(item));
  field("state").textContent = `${found.length.toLocaleString("en")} turns, the first ${Math.min(limit, found.length)} are shown.`;
  field("more").hidden = found.length <= limit;
}

field("predicted").append(new Option("any", ""), ...data.classes.map((name, number) => new Option(name, number)));
for (const name of ["model", "true", "predicted", "speaker"]) {
  field(name).addEventListener("change", () => { limit = 5; show(); });
}
field("more").addEventListener("click", () => { limit += 20; show(); });
show();
