// Fetches and decodes what the server of the tab offers.

// The server answers, but a run holds what no monitor has written.
export class Unreadable extends Error {}

async function request(route, query = {}) {
  const address = new URL(`./${route}?${new URLSearchParams(query)}`, import.meta.url);
  const response = await fetch(address);
  if (response.status === 422) throw new Unreadable(`${query.run}, ${route}`);
  if (!response.ok) throw new Error(`${route}: ${response.status}`);
  return response;
}

const requestJson = async (route, query) => (await request(route, query)).json();

export const fetchRuns = () => requestJson("runs");

export const fetchFindings = (run) => requestJson("findings", { run });

export const fetchHistograms = (run, tag) => requestJson("histogram", { run, tag });

// Returns a slice of a table: `count` records of `width` series each. The value of a series in a
// record is `values[record * width + series]`; `absent[series]` tells whether the statistic does
// not apply.
async function fetchSlice(table, axis, index, width) {
  const query = { run: table.run, tag: table.tag, [axis]: index };
  const bytes = await (await request("table", query)).arrayBuffer();
  const count = (bytes.byteLength - width) / (8 + 4 * width);
  return {
    width,
    count,
    steps: new Float64Array(bytes, 0, count),
    values: new Float32Array(bytes, 8 * count, count * width),
    absent: new Uint8Array(bytes, (8 + 4 * width) * count, width),
  };
}

// Stands for a slice that cannot be read.
export const emptySlice = (width) => ({
  width,
  count: 0,
  steps: new Float64Array(0),
  values: new Float32Array(0),
  absent: new Uint8Array(width),
});

// One statistic of all rows.
export const fetchColumn = (table, index) => fetchSlice(table, "column", index, table.rows.length);

// All statistics of one row.
export const fetchRow = (table, index) => fetchSlice(table, "row", index, table.columns.length);
