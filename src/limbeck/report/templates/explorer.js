"use strict";
// Moves the bars of each temperature explorer of the page. The formulas are those of limbeck/losses/reference.py.

const log = Math.log, exp = Math.exp;

/** Return the log-probabilities log softmax(z / T). A logit of null is minus infinity. */
function logProbabilities(logits, temperature) {
  const scaled = logits.map((z) => (z === null ? -Infinity : z / temperature));
  const highest = Math.max(...scaled);
  const total = log(scaled.reduce((sum, z) => sum + exp(z - highest), 0));
  return scaled.map((z) => z - highest - total);
}

/** Return log p of each class and then log(1 - p) of each, where each class has a sigmoid: p = 1 / (1 + exp(-z / T)). */
function logSigmoids(logits, temperature) {
  const scaled = logits.map((z) => (z === null ? -Infinity : z / temperature));
  const logOf = (z) => Math.min(z, 0) - Math.log1p(exp(-Math.abs(z)));
  return [...scaled.map(logOf), ...scaled.map((z) => logOf(-z))];
}

/** Return what one example is at one temperature. Of logSigmoids the first half are the probabilities that are shown. */
function measure(logOf, example, temperature, compensate) {
  const a = logOf(example.student, temperature), b = logOf(example.teacher, temperature);
  const count = example.student.length, factor = compensate ? temperature ** 2 : 1;
  const terms = b.map((log, i) => (exp(log) === 0 ? 0 : exp(log) * (log - a[i])));
  const entropy = b.reduce((sum, log) => (exp(log) === 0 ? sum : sum - exp(log) * log), 0);
  const student = a.slice(0, count).map(exp), teacher = b.slice(0, count).map(exp);
  const gradient = student.map((p, i) => (factor * (p - teacher[i])) / temperature);
  const isThere = (i) => example.labels.includes(i % count) === i < count;
  return {
    teacher, student, gradient,
    loss: factor * terms.reduce((sum, term) => sum + term, 0),
    norm: Math.hypot(...gradient),
    classes: exp(entropy),
    hard: example.labels === null ? null : logOf(example.student, 1).reduce((sum, log, i) => (isThere(i) ? sum - log : sum), 0),
  };
}

/** Return the numbers of the bars: those of the classes that have one, then the sum of all others. */
function bars(values, example) {
  const own = example.bars.map((i) => values[i]);
  const rest = values.reduce((sum, value, i) => (example.bars.includes(i) ? sum : sum + value), 0);
  return values.length > own.length ? [...own, rest] : own;
}

function percent(share) {
  return share > 0 && share < 0.0005 ? "< 0.1 %" : (100 * share).toFixed(1) + " %";
}

function short(number) {
  return number === null ? "–" : Number.isFinite(number) ? number.toPrecision(3) : "infinite";
}

function explore(root) {
  const data = JSON.parse(root.querySelector("script").textContent);
  const slider = root.querySelector("input[type=range]"), compensate = root.querySelector("input[type=checkbox]");
  const rows = [...root.querySelectorAll("tbody tr")], curve = root.querySelector(".curve");
  const span = log(data.highest / data.lowest);
  const measured = measure.bind(null, data.family === "sigmoid" ? logSigmoids : logProbabilities);
  const place = (temperature) => log(temperature / data.lowest) / span;
  let example = data.examples[0], temperature = data.start, largest = 1;

  /** Draw the loss over T of the chosen example, and find the scale of its gradients. */
  function choose(number) {
    example = data.examples[number];
    root.querySelectorAll(".shown").forEach((one, i) => (one.hidden = i !== number));
    const points = Array.from({length: 81}, (_, i) => data.lowest * exp((span * i) / 80));
    const all = points.map((t) => measured(example, t, compensate.checked));
    const finite = all.map((one) => one.loss).filter(Number.isFinite);
    const top = Math.max(...finite, 1e-9);
    const path = all.map((one, i) => `${(i / 80) * 100} ${40 - 38 * Math.min(1, one.loss / top)}`);
    curve.querySelector("path").setAttribute("d", "M" + path.join("L"));
    largest = Math.max(1e-9, ...points.flatMap((t) => measured(example, t, true).gradient.map(Math.abs)));
    show();
  }

  function bar(cell, value, text, isSigned) {
    const width = isSigned ? Math.min(50, (50 * Math.abs(value)) / largest) : 100 * value;
    const left = isSigned ? (value < 0 ? 50 - width : 50) : 0;
    cell.dataset.value = value;
    cell.querySelector("i").style.cssText = `left:${left}%;width:${width}%`;
    cell.querySelector("b").textContent = text;
  }

  function show() {
    const found = measured(example, temperature, compensate.checked);
    const shown = ["teacher", "student", "gradient"].map((key) => bars(found[key], example));
    const order = example.teacher.map((_, i) => i).sort((i, j) => example.teacher[j] - example.teacher[i]);
    rows.forEach((row, i) => {
      const [name, teacher, student, gradient] = row.children, number = example.bars[i];
      if (number !== undefined) {
        name.querySelector("span").textContent = data.classes[number];
        name.querySelector("em").hidden = !(example.labels || []).includes(number);
        row.classList.toggle("noise", data.steady !== null && order.indexOf(number) > data.steady);
      }
      bar(teacher, shown[0][i], percent(shown[0][i]));
      bar(student, shown[1][i], percent(shown[1][i]));
      bar(gradient, shown[2][i], (shown[2][i] < 0 ? "−" : "+") + Math.abs(shown[2][i]).toFixed(3), true);
    });
    for (const output of root.querySelectorAll("output")) {
      const value = output.dataset.what === "temperature" ? temperature : found[output.dataset.what];
      output.dataset.value = value;
      output.textContent = short(value);
    }
    root.querySelector(".factor").hidden = !compensate.checked;
    root.querySelector(".cursor").style.left = 100 * place(temperature) + "%";
    slider.setAttribute("aria-valuetext", "T = " + short(temperature));
  }

  function moveTo(chosen) {
    temperature = chosen;
    slider.value = place(chosen);
    show();
  }

  slider.addEventListener("input", () => {
    temperature = data.lowest * exp(span * slider.value);
    show();
  });
  root.querySelectorAll("input[type=radio]").forEach((radio, number) => {
    radio.addEventListener("change", () => choose(number));
    if (radio.checked) example = data.examples[number]; // a browser remembers the choice when a page is loaded again
  });
  compensate.addEventListener("change", () => choose(data.examples.indexOf(example)));
  root.querySelectorAll("button").forEach((button) => {
    button.addEventListener("click", () => moveTo(Number(button.value)));
  });
  root.classList.add("live");
  slider.value = place(temperature);
  choose(data.examples.indexOf(example));
}

document.querySelectorAll(".explorer").forEach(explore);
