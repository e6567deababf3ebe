// Prints every expression of dashboard.json as a file of recording rules, so that `promtool check rules` can read them.
// What Grafana fills in is given a stand-in.
import { readFileSync } from "node:fs";

const { panels } = JSON.parse(readFileSync(new URL("dashboard.json", import.meta.url), "utf8"));
const rules = panels.flatMap(({ id, targets }) =>
  targets.map(({ refId, expr }) => ({
    record: `panel_${id}:${refId}`,
    expr: expr.replaceAll("$__rate_interval", "1m"),
  })),
);
if (rules.length === 0) throw new Error("the dashboard has no expressions");
// JSON is YAML.
console.log(JSON.stringify({ groups: [{ name: "dashboard", rules }] }, null, 2));
