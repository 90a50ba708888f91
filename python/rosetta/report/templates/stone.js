"use strict";
// The state is the address behind #: task/language/framework/language/framework, and perhaps a part to go to.
(() => {
  const index = JSON.parse(document.getElementById("index").textContent);
  const at = (id) => document.getElementById(id);
  const selects = [at("left"), at("right")];
  const files = new Map([...document.querySelectorAll("[data-file]")].map((node) => [node.dataset.file, node]));
  const articles = new Map(
    [...document.querySelectorAll("[data-framework]")].map((node) => [node.dataset.framework, node]),
  );
  // The report has the stone as one section of many: its title is its own, and its headings are a level lower.
  const alone = document.documentElement.classList.contains("alone");
  const heading = at("mapping").tagName;
  let shown = "";

  function element(tag, properties = {}, ...children) {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  }

  // What the address asks for. What there is not is replaced, and named in `missing`.
  function asked() {
    const words = decodeURIComponent(location.hash.slice(1)).split("/");
    const task = words[0] in index.tasks ? words[0] : Object.keys(index.tasks)[0];
    const legs = index.tasks[task].legs;
    const missing = [];
    if (words[0] && words[0] !== task && words.length > 1) missing.push(words[0]);
    const named = [words.slice(1, 3).join("/"), words.slice(3, 5).join("/")];
    const pair = named.map((name, side) => {
      if (name in legs) return name;
      if (name) missing.push(`${name}/${task}`);
      return [index.first[side], ...index.first].find((first) => first !== named[1 - side]);
    });
    const part = index.parts.find((name) => name.toLowerCase() === words[5]);
    return { task, pair, part, missing };
  }

  function address(task, pair, part) {
    return "#" + [task, ...pair, ...(part ? [part.toLowerCase()] : [])].join("/");
  }

  function go(task, pair) {
    location.hash = address(task, pair);
  }

  function fillSelect(select, task, chosen) {
    const groups = new Map();
    for (const name of Object.keys(index.tasks[task].legs)) {
      const { title, language } = index.frameworks[name];
      if (!groups.has(language)) groups.set(language, element("optgroup", { label: language }));
      groups.get(language).append(new Option(title, name, false, name === chosen));
    }
    select.replaceChildren(...groups.values());
  }

  function facts(name, task) {
    const node = articles.get(name).cloneNode(true);
    node.querySelector("dl")?.remove();
    node.querySelectorAll(".of-task").forEach((word) => word.remove());
    node.querySelectorAll(`[data-task]:not([data-task="${task}"])`).forEach((remark) => remark.remove());
    node.firstElementChild.replaceWith(element(heading, { textContent: index.frameworks[name].title }));
    node.append(element("p", { className: "path mono", textContent: index.tasks[task].legs[name].file }));
    return node;
  }

  // `text` as nodes, its words outside the longest common subsequence of both texts marked. What is in brackets is one word.
  function marked(text, other) {
    const word = /[([][^()[\]]*[)\]]|[^\s,;:()[\]]+/g;
    const [a, b] = [text, other].map((line) => line.match(word) || []);
    const alike = (i, j) => a[i] === b[j];
    const common = Array.from({ length: a.length + 1 }, () => new Array(b.length + 1).fill(0));
    for (let i = a.length - 1; i >= 0; i--) {
      for (let j = b.length - 1; j >= 0; j--) {
        common[i][j] = alike(i, j) ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
      }
    }
    const nodes = [];
    let place = 0;
    for (let i = 0, j = 0; i < a.length; i++) {
      while (j < b.length && common[i][j + 1] === common[i][j]) j++;
      const same = alike(i, j);
      const start = text.indexOf(a[i], place);
      const gap = text.slice(place, start);
      place = start + a[i].length;
      if (same) nodes.push(gap + a[i]);
      else if (nodes.at(-1)?.tagName === "MARK") nodes.at(-1).append(gap + a[i]);
      else nodes.push(gap, element("mark", {}, a[i]));
      if (same) j++;
    }
    return [...nodes, text.slice(place)];
  }

  function mapping(task, pair) {
    const texts = (name, row) => articles.get(name).querySelector(`[data-row="${row}"]`)?.textContent ?? "";
    const body = document.querySelector(".mapping tbody");
    body.replaceChildren();
    for (const row of index.tasks[task].rows) {
      const [left, right] = pair.map((name) => texts(name, row));
      if (!left && !right) continue;
      const both = left && right;
      const sign = element("td", { className: "same" });
      if (both) {
        sign.append(element("span", { ariaHidden: "true", textContent: left === right ? "=" : "≠" }));
        sign.append(element("span", { className: "unseen", textContent: left === right ? "the same" : "differs" }));
      }
      const cell = (text, other) =>
        text ? element("td", {}, ...(both ? marked(text, other) : [text])) : element("td", { className: "none" }, "–");
      const head = element("th", { scope: "row", textContent: index.names[row] });
      body.append(element("tr", {}, head, cell(left, right), sign, cell(right, left)));
    }
    const heads = document.querySelectorAll(".mapping thead th");
    heads[1].textContent = index.frameworks[pair[0]].title;
    heads[3].textContent = index.frameworks[pair[1]].title;
    const bare = [...new Set(pair)].filter((name) => !articles.get(name).querySelector("dl"));
    document.querySelector(".mapping").parentNode.hidden = !body.children.length;
    at("unmapped").textContent = bare.length
      ? `${bare.map((name) => index.frameworks[name].title).join(" and ")}: no library, so nothing to map; what the arrays look like stands in the code.`
      : "";
  }

  function partRow(part, task, pair) {
    const cells = pair.map((name) => {
      const file = files.get(index.tasks[task].legs[name].file);
      const found = file.querySelector(`[data-part="${part}"]`).lastElementChild.cloneNode(true);
      if (found.matches(".absent")) leadTo(found, index.tasks[task].legs[name].shared);
      return element("div", { className: "cell" }, whose(name), found);
    });
    const id = `part-${part.toLowerCase()}`;
    const section = element("section", { className: "part", id });
    section.setAttribute("aria-labelledby", `${id}-name`);
    section.append(
      element(heading, { id: `${id}-name`, tabIndex: -1, textContent: part }),
      element("div", { className: "pair" }, ...cells),
    );
    return section;
  }

  // "in setup.py" becomes a way to that file.
  function leadTo(word, paths) {
    const path = paths.find((path) => word.textContent === `in ${path.split("/").pop()}`);
    if (!path) return;
    const open = () => {
      const box = document.querySelector(`.shared [data-shared="${path}"]`);
      box.open = true;
      box.scrollIntoView();
      box.querySelector("summary").focus({ preventScroll: true });
    };
    word.replaceChildren(element("button", { type: "button", onclick: open }, word.textContent));
  }

  function whose(name) {
    return element("p", { className: "whose", textContent: index.frameworks[name].title });
  }

  function sharedFiles(name, task) {
    const paths = index.tasks[task].legs[name].shared;
    const cell = element("div", { className: "cell" }, whose(name));
    for (const path of paths) {
      const file = files.get(path);
      const box = element("details", {}, element("summary", { className: "mono", textContent: path }));
      box.dataset.shared = path;
      file.querySelectorAll("pre.code").forEach((code) => box.append(code.cloneNode(true)));
      cell.append(box);
    }
    if (!paths.length) cell.append(element("p", { className: "absent", textContent: "nothing: each file stands alone" }));
    return cell;
  }

  function inSight(node) {
    const { top, bottom } = node.getBoundingClientRect();
    return bottom > 0 && top < innerHeight;
  }

  function show() {
    // An address without a slash leads to another place of the page.
    if (shown && location.hash && !location.hash.includes("/")) return;
    const { task, pair, part, missing } = asked();
    const state = address(task, pair);
    if (state !== shown) {
      document.querySelector(`[name="task"][value="${task}"]`).checked = true;
      selects.forEach((select, side) => {
        fillSelect(select, task, pair[side]);
        at(`${select.id}-language`).textContent = index.frameworks[pair[side]].language;
      });
      document.querySelector(".facts").replaceChildren(...pair.map((name) => facts(name, task)));
      mapping(task, pair);
      at("rows").replaceChildren(...index.parts.map((name) => partRow(name, task, pair)));
      document.querySelector(".shared").replaceChildren(...pair.map((name) => sharedFiles(name, task)));
      at("parts").replaceChildren(
        ...index.parts.map((name) => element("a", { href: address(task, pair, name), textContent: name })),
      );
      const names = pair.map((name) => index.frameworks[name].title).join(" and ");
      if (alone) document.title = `${names}: ${index.tasks[task].title} · Rosetta Bench`;
      shown = state;
    }
    at("said").textContent = missing.length ? `There is no ${missing.join(", no ")} here.` : "";
    if (part) {
      const name = at(`part-${part.toLowerCase()}-name`);
      name.scrollIntoView();
      name.focus({ preventScroll: true });
    } else if (location.hash.includes("/") && !inSight(at("bar"))) {
      at("tasks").scrollIntoView();
      at("mapping").focus({ preventScroll: true });
    }
  }

  for (const id of ["tasks", "bar", "comparison"]) at(id).hidden = false;
  at("tasks").addEventListener("change", (event) => go(event.target.value, asked().pair));
  at("bar").addEventListener("change", () => go(asked().task, selects.map((select) => select.value)));
  at("bar").addEventListener("submit", (event) => event.preventDefault());
  at("swap").addEventListener("click", () => go(asked().task, asked().pair.reverse()));
  // A link to the part that the address names already changes nothing, and still should lead there.
  at("parts").addEventListener("click", (event) => event.target.hash === location.hash && show());
  addEventListener("hashchange", show);
  show();
})();
