/** The script of the report: filters. Without it everything is shown. */
export const SCRIPT = `
'use strict';
(() => {
  const LIMIT = 300;
  const $ = (id) => document.getElementById(id);
  const rows = [...document.querySelectorAll('#rules tbody tr')];
  const search = $('search'), kind = $('kind'), reason = $('reason'), file = $('file'), more = $('more'), shown = $('shown');
  const boxes = [...document.querySelectorAll('.filters input[type=checkbox]')];
  if (!search) return;
  const texts = rows.map((r) => r.textContent.toLowerCase());
  let limit = LIMIT;
  const apply = () => {
    const words = search.value.toLowerCase().split(/\\s+/).filter(Boolean);
    const verdicts = new Set(boxes.filter((b) => b.checked).map((b) => b.value));
    let found = 0;
    rows.forEach((row, i) => {
      const d = row.dataset;
      const fits = verdicts.has(d.verdict) && (!kind.value || d.kind === kind.value) && (!file.value || d.file === file.value) &&
        (!reason.value || d.codes.split(' ').includes(reason.value)) && words.every((w) => texts[i].includes(w));
      if (fits) found++;
      row.hidden = !fits || found > limit;
    });
    shown.textContent = found === rows.length ? rows.length + ' rules' : found + ' of ' + rows.length + ' rules';
    more.hidden = found <= limit;
    more.textContent = 'Show ' + Math.max(0, found - limit) + ' more';
  };
  const reset = () => { limit = LIMIT; apply(); };
  search.addEventListener('input', reset);
  for (const e of [kind, reason, file, ...boxes]) e.addEventListener('change', reset);
  more.addEventListener('click', () => { limit += 2000; apply(); });
  document.addEventListener('click', (event) => {
    const button = event.target.closest('button[data-set]');
    if (button) {
      for (const e of [kind, reason, file]) e.value = '';
      $(button.dataset.set).value = button.dataset.value;
      reset();
      $('list').scrollIntoView();
    }
    const link = event.target.closest('a[href^="#f"]');
    const line = link && $(link.getAttribute('href').slice(1));
    const fold = line && line.closest('details');
    if (fold) fold.open = true;
  });
  for (const e of document.querySelectorAll('.scripted')) e.hidden = false;
  apply();
})();
`;
