// The provider's page: what is on sale, what was earned, which segments sell,
// and which channels can still take money.
import { watch } from './api.js';
import { sat, sats, satColumn, clock, time, bytes, count, plural, rungName, shortName, shortKey as short, element } from './format.js';

const $ = id => document.getElementById(id);
const rows = 15; // sales shown

let report = null, lost = false;

watch('/api/events', { state: r => { report = r; show(); } }, down => { lost = down; tell(); });
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => report && show());
new ResizeObserver(() => report && paint()).observe($('titles'));

function show() {
  const r = report;
  $('alias').textContent = r.node.alias;
  $('node').textContent = short(r.node.id);
  $('node').title = r.node.id;
  $('earned').textContent = sat(r.earned_msat);
  $('today').textContent = `${sats(r.earned_today_msat)} today`;
  fill('sales', count(r.sales), `${count(r.sales_today)} today`);
  const carries = r.byte_price_msat || r.carriage_msat;
  $('keys-row').hidden = $('carriage-row').hidden = !carries;
  fill('keys', sats(r.earned_msat - r.carriage_msat), `${sats(r.earned_today_msat - r.carriage_today_msat)} today`);
  fill('carriage', sats(r.carriage_msat), `${sats(r.carriage_today_msat)} today, at ${sats(r.byte_price_msat)} a MiB`);
  fill('offers', count(r.open_offers), 'can still be paid');
  fill('bytes', bytes(r.bytes_served), `${plural('request', r.requests)} since ${time(r.started)}`);
  const inbound = (r.peers ?? []).filter(p => p.active).reduce((sum, p) => sum + p.remote_msat, 0);
  fill('inbound', sats(inbound), plural('channel', r.peers?.length ?? 0));
  resale(r);
  if (r.titles?.length) titles(r.titles);
  if (r.recent?.length) $('recent').replaceChildren(...r.recent.slice(0, rows).map(sale));
  if (r.peers?.length) $('peers').replaceChildren(...r.peers.map(peer));
  tell();
}

// resale tells what was paid for what is sold, where anything was.
function resale(r) {
  const resold = r.upstream_msat > 0 || r.titles?.some(t => t.resold);
  $('upstream-box').hidden = $('risk-box').hidden = $('kept').hidden = !resold;
  if (resold) {
    fill('upstream', sats(r.upstream_msat), `${sats(r.upstream_today_msat)} today`);
    fill('risk', sats(r.at_risk_msat), 'keys of the last day');
    $('kept').textContent = `${sats(r.earned_msat - r.upstream_msat)} of it is left after what was paid upstream`;
  }
  const c = r.cache;
  $('cache-box').hidden = !c || !(c.hits + c.misses);
  if (!$('cache-box').hidden) fill('cache', `${Math.round(100 * c.hits / (c.hits + c.misses))} % hits`, `${sats(c.profit_msat)} profit; ${bytes(c.held_bytes)}`);
}

function fill(id, main, small) {
  $(id).replaceChildren(main, element('small', {}, small));
}

const label = r => r.content_type === 'video' ? rungName(r) : `${r.content_type === 'audio' ? 'sound' : r.content_type} ${shortName(r)}`;

// --- titles: the cards stay, so that reading and focus are not disturbed

const cards = new Map();

function titles(list) {
  for (const t of list) if (!cards.has(t.id)) cards.set(t.id, card(t));
  for (const [id, c] of cards) if (!list.some(t => t.id === id)) { c.box.remove(); cards.delete(id); }
  $('titles').replaceChildren(...list.map(t => cards.get(t.id).box));
  for (const t of list) update(cards.get(t.id), t);
  paint();
}

function card(t) {
  const head = element('p'), margin = element('p', { class: 'margin' }), missing = element('p', { class: 'missing' });
  const strips = element('div', { class: 'strips' });
  const lines = t.representations.map(r => {
    const canvas = element('canvas', { role: 'img' }), sum = element('span', { class: 'sum' });
    strips.append(element('span', { class: 'name' }, label(r)), canvas, sum);
    return { canvas, sum };
  });
  strips.append(element('div', { class: 'axis', 'aria-hidden': 'true' }, element('span', {}, '0:00'), element('span', {}, clock(t.duration_ms / 1000))));
  const box = element('article', { class: 'card title' },
    element('div', { class: 'head' }, element('h3', {}, t.title || t.name, ' ', element('code', { title: `publisher ${t.publisher}` }, short(t.publisher))), head), margin, missing, strips);
  return { box, head, margin, missing, lines, title: t };
}

function update(c, t) {
  c.title = t;
  c.head.replaceChildren(element('b', {}, sats(t.earned_msat)), ` from ${plural('segment', t.sales)}, `,
    element('b', {}, sats(t.earned_today_msat)), ` today${t.carriage_msat ? `, ${sats(t.carriage_msat)} by carrying its bytes` : ''}${t.prepaid ? ', also sold to other clients' : ''}`);
  c.margin.hidden = !t.resold && !t.upstream_msat;
  const left = t.earned_msat - t.upstream_msat;
  c.margin.replaceChildren('Resold: ', element('b', {}, sats(t.upstream_msat)), ' paid upstream, ', element('b', {}, sats(left)),
    t.earned_msat ? ` left, ${Math.round(100 * left / t.earned_msat)} % of what it earned` : ' left');
  c.missing.hidden = !t.missing;
  c.missing.className = t.resold ? 'margin' : 'missing';
  c.missing.textContent = t.resold ? `${plural('segment', t.missing)} not on the shelf yet: the key is bought when somebody asks for it.`
    : `${plural('segment', t.missing)} cannot be sold: the key or the sealed bytes are not here.`;
}

// paint draws the strips: one column a segment, or several segments a column
// where there are more than pixels. The scale is one for a title.
function paint() {
  const style = getComputedStyle(document.documentElement);
  for (const { title, lines } of cards.values()) {
    const most = Math.max(1, ...title.representations.flatMap(r => r.sold ?? []));
    title.representations.forEach((r, i) => {
      const { canvas, sum } = lines[i], sold = r.sold ?? [];
      sum.textContent = `${sats(r.earned_msat)} · ${count(r.sales)}×`;
      canvas.setAttribute('aria-label', `${plural('sale', r.sales)}; the segment sold most, ${Math.max(0, ...sold)} times`);
      strip(canvas, sold, most, style.getPropertyValue('--accent'));
    });
  }
}

function strip(canvas, sold, most, colour) {
  const scale = devicePixelRatio || 1, width = Math.round(canvas.clientWidth * scale), height = Math.round(18 * scale);
  if (!width) return;
  canvas.width = width;
  canvas.height = height;
  const c = canvas.getContext('2d'), gap = width / sold.length > 6 * scale ? scale : 0;
  c.fillStyle = colour;
  const columns = Math.min(sold.length, width);
  for (let i = 0; i < columns; i++) {
    const from = Math.floor(i * sold.length / columns), to = Math.max(from + 1, Math.floor((i + 1) * sold.length / columns));
    const n = Math.max(...sold.slice(from, to));
    if (!n) continue;
    c.globalAlpha = 0.25 + 0.75 * n / most;
    const x = Math.round(i * width / columns), end = Math.round((i + 1) * width / columns);
    c.fillRect(x, 0, Math.max(1, end - x - gap), height);
  }
}

// --- sales and channels

function sale(s) {
  const t = report.titles?.find(t => t.name === s.title);
  const r = t?.representations.find(r => r.id === s.representation);
  return element('tr', {},
    element('td', {}, time(s.at)),
    element('td', {}, t ? t.title || t.name : short(s.title)),
    element('td', {}, r ? (label(r)) : s.representation, ' ', element('small', {}, s.segment < 0 ? 'of sealed bytes' : `no. ${s.segment + 1}`)),
    element('td', { class: 'wide-only' }, s.scheme),
    element('td', { class: 'num' }, satColumn(s.amount_msat)));
}

function peer(p) {
  const ours = element('i'), theirs = element('i');
  ours.style.width = `${100 * p.local_msat / p.capacity_msat}%`;
  theirs.style.width = `${100 * p.remote_msat / p.capacity_msat}%`;
  return element('div', { class: p.active ? 'peer' : 'peer off' },
    element('div', { class: 'head' },
      element('code', { title: p.node }, short(p.node)),
      element('span', {}, p.active ? (p.in_flight ? `${plural('payment', p.in_flight)} in flight` : 'active') : 'not active')),
    element('div', { class: 'balance', role: 'img', 'aria-label': `ours ${sats(p.local_msat)}, theirs ${sats(p.remote_msat)}` }, ours, theirs),
    element('div', { class: 'ends' }, element('span', {}, sats(p.local_msat)), element('span', {}, sats(p.remote_msat))));
}

// --- trouble

function tell() {
  const problem = lost ? ['The provider does not answer.', 'Is it still running? This page goes on by itself once it is back.']
    : report?.node.error ? ['The Lightning node does not answer.', `Viewers cannot pay until it does: ${report.node.error}`]
    : null;
  $('notice').hidden = !problem;
  if (problem && $('notice-text').textContent !== problem[0]) {
    $('notice-text').textContent = problem[0];
    $('notice-then').textContent = problem[1];
  }
}
