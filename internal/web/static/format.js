// Words and numbers for people.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat('en', { maximumFractionDigits: 1, minimumFractionDigits: 1 });
const finer = new Intl.NumberFormat('en', { maximumFractionDigits: 3 });

// sat gives an amount of msat in sat, with the digits that matter.
export function sat(msat) {
  const s = msat / 1000;
  if (Math.abs(s) >= 1000 || Number.isInteger(s)) return whole.format(s);
  return Math.abs(s) >= 10 ? fine.format(s) : finer.format(s);
}

// satColumn gives the same, with three places, for a column of numbers.
const column = new Intl.NumberFormat('en', { minimumFractionDigits: 3, maximumFractionDigits: 3 });
export const satColumn = msat => `${column.format(msat / 1000)} sat`;

export const sats = msat => `${sat(msat)} sat`;

// rate gives bit/s.
export function rate(bps) {
  return bps >= 1e6 ? `${fine.format(bps / 1e6)} Mbit/s` : `${whole.format(bps / 1000)} kbit/s`;
}

// clock gives seconds as m:ss or h:mm:ss.
export function clock(seconds) {
  const s = Math.max(0, Math.round(seconds)), h = Math.floor(s / 3600), m = Math.floor(s / 60) % 60;
  const two = n => String(n).padStart(2, '0');
  return h ? `${h}:${two(m)}:${two(s % 60)}` : `${m}:${two(s % 60)}`;
}

export const time = date => new Date(date).toLocaleTimeString('en-GB');

// date gives the time of day for what is today, else the day.
export function date(when) {
  const d = new Date(when);
  return d.toDateString() === new Date().toDateString() ? time(d) : d.toLocaleDateString('en-GB', { day: 'numeric', month: 'short', year: 'numeric' });
}

export function bytes(n) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let i = 0;
  for (; n >= 1000 && i < units.length - 1; i++) n /= 1000;
  return `${i && n < 100 ? fine.format(n) : whole.format(n)} ${units[i]}`;
}

export const count = n => whole.format(n);

// plural("segment", 2) is "2 segments".
export const plural = (word, n) => `${whole.format(n)} ${word}${n === 1 ? '' : 's'}`;

// rungName names a Representation: by its lines if it has any.
export const rungName = r => r.height ? `${r.height}p` : rate(r.bandwidth);

// shortName is for narrow columns.
export const shortName = r => r.height ? `${r.height}p` : `${whole.format(r.bandwidth / 1000)}k`;

// shortKey tells one key from another at a glance.
export const shortKey = key => key ? `${key.slice(0, 10)}…${key.slice(-6)}` : '';

// element makes an HTML element; strings become text, never markup.
export function element(tag, attributes, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes ?? {})) e.setAttribute(k, v);
  e.append(...children);
  return e;
}
