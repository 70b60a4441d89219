// What the server knows, decoded.

async function get(route, query = {}) {
  const address = new URL(`./${route}?${new URLSearchParams(query)}`, import.meta.url);
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${route}: ${answer.status}`);
  return answer;
}

const json = async (route, query) => (await get(route, query)).json();

export const runs = () => json("runs");

export const findings = (run) => json("findings", { run });

export const histogram = (run, tag) => json("histogram", { run, tag });

// One statistic of all rows, or all statistics of one row: `values[step * width + i]`.
async function slice(table, which, index, width) {
  const query = { run: table.run, tag: table.tag, [which]: index };
  const bytes = await (await get("table", query)).arrayBuffer();
  const count = (bytes.byteLength - width) / (8 + 4 * width);
  return {
    width,
    count,
    steps: new Float64Array(bytes, 0, count),
    values: new Float32Array(bytes, 8 * count, count * width),
    absent: new Uint8Array(bytes, (8 + 4 * width) * count, width),
  };
}

export const column = (table, index) => slice(table, "column", index, table.rows.length);

export const row = (table, index) => slice(table, "row", index, table.columns.length);
