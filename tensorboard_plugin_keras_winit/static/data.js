// Fetches and decodes what the server of the tab offers.

// What of the runs no monitor has written, as texts. The page does without it.
export const unreadable = new Set();

// Resolves to null if the run holds there what no monitor has written.
async function request(route, query = {}) {
  const address = new URL(`./${route}?${new URLSearchParams(query)}`, import.meta.url);
  const response = await fetch(address);
  if (response.status === 422) {
    unreadable.add(`${query.run}, ${query.tag ?? route}`);
    return null;
  }
  if (!response.ok) throw new Error(`${route}: ${response.status}`);
  return response;
}

const requestJson = async (route, query) => (await request(route, query))?.json() ?? [];

export const fetchRuns = () => requestJson("runs");

export const fetchFindings = (run) => requestJson("findings", { run });

export const fetchHistograms = (run, tag) => requestJson("histogram", { run, tag });

// Returns a slice of a table: `count` records of `width` series each. The value of a series in a
// record is `values[record * width + series]`; `absent[series]` tells whether the statistic does
// not apply.
async function fetchSlice(table, axis, index, width) {
  const query = { run: table.run, tag: table.tag, [axis]: index };
  const response = await request("table", query);
  const bytes = response ? await response.arrayBuffer() : new ArrayBuffer(width);
  const count = (bytes.byteLength - width) / (8 + 4 * width);
  return {
    width,
    count,
    steps: new Float64Array(bytes, 0, count),
    values: new Float32Array(bytes, 8 * count, count * width),
    absent: new Uint8Array(bytes, (8 + 4 * width) * count, width),
  };
}

// One statistic of all rows.
export const fetchColumn = (table, index) => fetchSlice(table, "column", index, table.rows.length);

// All statistics of one row.
export const fetchRow = (table, index) => fetchSlice(table, "row", index, table.columns.length);

// The columns of a table that have the given names, by name, with all rows.
export async function fetchColumns(table, names) {
  const present = names.filter((name) => table.columns.includes(name));
  const slices = await Promise.all(present.map((name) => fetchColumn(table, table.columns.indexOf(name))));
  return Object.fromEntries(present.map((name, i) => [name, slices[i]]));
}
