// Finds tables, rows and records among those that a run has written.

// Returns an option [key, label, table] for each table of a kind. A run has several if its layers
// have changed: the newest comes first.
export function tableOptions(tables, kind) {
  const sorted = tables
    .filter((table) => table.kind === kind)
    .sort((a, b) => (a.run < b.run ? -1 : a.run > b.run ? 1 : b.time - a.time));
  return sorted.map((table, i) => {
    const older = i > 0 && sorted[i - 1].run === table.run;
    const label = older ? `${table.run} (earlier, ${table.rows.length} rows)` : table.run;
    return [`${table.run}\n${table.tag}`, label, table];
  });
}

// Returns the options for two keys. A key without an option stands for the newest table of its
// run, as after a change of the kind. The first falls back to the newest table, the second to
// undefined.
export function chosenOptions(options, [first, second]) {
  const runOf = (key) => key.split("\n")[0];
  const find = (key) =>
    options.find(([other]) => other === key) ?? options.find(([other]) => runOf(other) === runOf(key));
  const newest = options.reduce((a, b) => (b[2].time > a[2].time ? b : a));
  return [find(first) ?? newest, find(second)];
}

// Appends a number to names that occur again, so that every row has a key of its own.
export function rowKeys(names) {
  const counts = new Map();
  return names.map((name) => {
    const count = (counts.get(name) ?? 0) + 1;
    counts.set(name, count);
    return count > 1 ? `${name} (${count})` : name;
  });
}

// Returns the index of a row in one of the views, or -1. Keras counts automatic names on from
// model to model, so a view without the key but with as many rows has the row at the same index.
export function rowIndex(key, { keys }, views) {
  const index = keys.indexOf(key);
  const other = views.find((view) => view.keys.includes(key));
  return index < 0 && other?.keys.length === keys.length ? other.keys.indexOf(key) : index;
}

// Returns the index of the last record that is not after a step.
export function recordIndex(step, { steps, count }) {
  let record = 0;
  while (record + 1 < count && steps[record + 1] <= step) record++;
  return record;
}
