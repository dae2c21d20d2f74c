// Numbers as a person reads them, by the name of Grafana's unit. Three digits are enough to act on.

const SPANS = [
  [1e-6, 1e-9, "ns"],
  [1e-3, 1e-6, "µs"],
  [1, 1e-3, "ms"],
  [120, 1, "s"],
  [7200, 60, "min"],
  [172_800, 3600, "h"],
  [Infinity, 86_400, "d"],
];
const BYTES = [[1e3, 1, "B"], [1e6, 1e3, "kB"], [1e9, 1e6, "MB"], [1e12, 1e9, "GB"], [Infinity, 1e12, "TB"]];
const SHORT = [[1e3, 1, ""], [1e6, 1e3, "k"], [1e9, 1e6, "M"], [Infinity, 1e9, "G"]];
const WORDS = { reqps: "req/s", ops: "/s", rowsps: "rows/s", cps: "/s", wps: "/s", h: "h", d: "d", m: "min", celsius: "°C", watt: "W" };

/** The number with its unit: `12 ms`, `4.1 %`, `3.2 req/s`. */
export function figure(value, unit, decimals = null) {
  if (value === null || value === undefined) return "–";
  switch (unit) {
    case "percentunit":
      return `${digits(value * 100, decimals)} %`;
    case "percent":
      return `${digits(value, decimals)} %`;
    case "s":
      return scaled(value, SPANS);
    case "ms":
      return scaled(value / 1000, SPANS);
    case "bytes":
    case "decbytes":
      return scaled(value, BYTES);
    case "currencyUSD":
      return `$${digits(value, decimals)}`;
    case "bool_yes_no":
      return value ? "yes" : "no";
    case "dateTimeAsIso":
    case "dateTimeFromNow":
      return `${new Date(value).toISOString().slice(0, 19).replace("T", " ")} UTC`;
    case "":
    case "none":
    case "short":
      return decimals === null ? scaled(value, SHORT) : digits(value, decimals);
    default:
      return `${Math.abs(value) >= 1000 ? scaled(value, SHORT) : digits(value, decimals)} ${WORDS[unit] || unit}`;
  }
}

/** `12:03:05`, in UTC. */
export const clock = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 19);

function digits(value, decimals) {
  if (decimals !== null && decimals !== undefined) return group(value.toFixed(decimals));
  const size = Math.abs(value);
  if (size >= 100) return group(value.toFixed(0));
  return String(Number(value.toPrecision(3)));
}

const group = (text) => text.replace(/\B(?=(\d{3})+(?!\d))/g, (found, _, at) => (text.slice(0, at).includes(".") ? found : ","));

function scaled(value, steps) {
  const size = Math.abs(value);
  if (size === 0) return `0 ${steps.find(([, factor]) => factor === 1)[2]}`.trim();
  const [, factor, name] = steps.find(([limit]) => size < limit);
  return `${Number((value / factor).toPrecision(3))} ${name}`.trim();
}
