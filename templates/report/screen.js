"use strict";
(function () {
  const by = (id) => document.getElementById(id);
  const rules = Array.from(document.querySelectorAll(".rule"));
  const state = by("f-state"), severity = by("f-severity"), text = by("f-text"), count = by("f-count");
  function filter() {
    const wanted = text.value.trim().toLowerCase();
    let shown = 0;
    for (const rule of rules) {
      const fits = (!state.value || rule.dataset.state === state.value)
        && (!severity.value || rule.dataset.severity === severity.value)
        && (!wanted || rule.textContent.toLowerCase().includes(wanted));
      rule.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    count.textContent = count.dataset.text.replace("0", shown + " / " + rules.length);
  }
  for (const control of [state, severity, text]) control.addEventListener("input", filter);
  document.querySelector(".tools").addEventListener("submit", (event) => event.preventDefault());
  by("b-print").addEventListener("click", () => window.print());
  by("b-theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark"
      : window.matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  filter();
})();
