// The viewer's page: plays a film, shows what it costs, bounds it. The proxy
// keeps the books and the bounds; this page only shows and asks.
import { get, post, watch } from './api.js';
import { Player } from './player.js';
import { Plots } from './plot.js';
import { sat, sats, satColumn, rate, clock, time, date, plural, rungName, shortName, shortKey, element } from './format.js';

const $ = id => document.getElementById(id);
const retryAfter = 5000; // ms, for trouble that may pass by itself
const rows = 12;         // purchases shown

let titles = [], title = null, state = null, lost = false, unwatch = () => {};
const weights = ['thrift', 'sound', 'switch', 'stall']; // fields of a wish, and of the page
let soundOnly = null; // whether the film is played without its picture
let sliding = false, retry = 0, purchases = new Map();

const player = new Player($('video'), failed, (rep, index) => mark(rep, index, {}));
const plots = new Plots($('plot-price'), $('plot-rung'), $('plot-money'));

main().catch(e => notice('The page cannot start.', e.message, true));

async function main() {
  titles = await get('/api/titles');
  while (!titles.length) {
    notice('There is no film here yet.', 'The proxy asks its providers again and again; this page goes on by itself.', false);
    await new Promise(done => setTimeout(done, retryAfter / 2));
    titles = await get('/api/titles').catch(() => []);
  }
  offerTitles();
  $('title').addEventListener('change', () => choose(titles.find(t => t.id === $('title').value)));
  const wanted = decodeURIComponent(location.hash.slice(1));
  const first = titles.find(t => t.id === wanted || t.name === wanted) ?? titles.find(t => t.paid) ?? titles[0];
  $('title').value = first.id;
  await choose(first);
  setInterval(showBuffer, 500);
}

function offerTitles() {
  $('title').replaceChildren(...titles.map(t => element('option', { value: t.id }, called(t))));
  $('title').hidden = titles.length < 2;
  $('only').hidden = titles.length > 1;
  $('only').textContent = called(titles[0]);
}

// called names a film and who published it: a name alone is anybody's.
const called = t => t.publisher ? `${t.title} · by ${shortKey(t.publisher)}` : t.title;

async function choose(t) {
  unwatch();
  title = t;
  soundOnly = null;
  purchases = new Map();
  document.title = `${t.title} · htlcdash`;
  history.replaceState(null, '', `#${encodeURIComponent(t.id)}`);
  $('csv').href = `/api/ledger.csv?title=${t.id}`;
  state = (await get(`/api/state?title=${t.id}`)).title;
  plots.film(t.duration_ms / 1000, ladder());
  $('csv').hidden = $('agent-card').hidden = $('money-plot').hidden = !state.paid;
  offerHeights();
  $('purchases').replaceChildren(element('tr', {}, element('td', { colspan: 5, class: 'empty' }, state.paid ? 'Nothing bought yet.' : 'This film is free.')));
  show();
  unwatch = watch(`/api/events?title=${t.id}`, {
    state: s => { wallet(s.wallet); state = s.title; show(); },
    purchases: bought,
  }, down => { lost = down; show(); });
  player.open(t, state);
  $('unmute').hidden = !await player.play();
}

const ladder = () => {
  const video = state.rungs.filter(r => r.kind === 'video');
  return video.length ? video : state.rungs;
};
const rungOf = id => state.rungs.find(r => r.id === id);

// --- what is shown

function wallet(w) {
  $('balance').textContent = !w ? '–' : w.error ? 'not known' : sats(w.balance_msat);
  $('balance').title = w?.error ?? '';
}

function show() {
  const s = state;
  if (s.agent && s.agent.sound_only !== soundOnly) reload(s);
  player.bound(s);
  player.hold(s.stopped);
  $('spent').textContent = s.paid ? sat(s.spent_msat) : '0';
  $('of').textContent = s.budget_msat !== null && s.paid ? `of ${sats(s.budget_msat)}` : '';
  const share = m => `${s.budget_msat ? Math.min(100, 100 * m / s.budget_msat) : 0}%`;
  $('meter-spent').style.width = share(s.spent_msat);
  $('meter-reserved').style.width = share(s.reserved_msat);
  showBudget(s);
  $('stop').hidden = !s.paid;
  $('stop').setAttribute('aria-pressed', s.stopped);
  $('stop').textContent = s.stopped ? 'Go on paying and playing' : 'Stop paying';

  const now = s.now?.find(p => p.kind === ladder()[0]?.kind);
  const rung = now && rungOf(now.rep);
  fill('quality', rung ? rungName(rung) : '–', rung ? rate(rung.bandwidth) : '');
  const price = s.now?.reduce((sum, p) => sum + p.price_msat, 0);
  fill('price', !s.paid ? 'free' : now ? sats(price) : '–', now && s.paid && s.now.length > 1 ? 'with sound' : '');
  fill('flight', s.paid ? `${s.in_flight}` : '–', !s.paid ? '' : s.in_flight ? `${s.in_flight === 1 ? 'payment' : 'payments'}, ${sats(s.reserved_msat)}` : 'payments');
  fill('fees', s.paid ? sats(s.fees_msat) : '–', s.spent_msat && s.fees_msat ? `${(100 * s.fees_msat / s.spent_msat).toFixed(1)} %` : '');
  // What was spent is shown in its parts once it is not for keys and routes alone.
  $('carriage-row').hidden = !s.carriage_msat;
  $('credentials-row').hidden = !s.credentials_msat;
  $('keys-row').hidden = !s.carriage_msat && !s.credentials_msat;
  fill('keys', sats(s.keys_msat));
  fill('carriage', sats(s.carriage_msat), s.keys_msat ? `${(100 * s.carriage_msat / s.keys_msat).toFixed(1)} % of the keys` : '');
  fill('credentials', sats(s.credentials_msat));
  fill('unplayed', s.paid ? sats(s.unplayed_msat) : '–', s.unplayed ? plural('segment', s.unplayed) : '');
  $('risk').textContent = risk(s);
  showSellers(s.providers);
  if (s.agent) showAgent(s);
  showBuffer();
  tell();
}

// reload opens the film anew where it stands, once its picture is left out or is
// wanted again.
async function reload(s) {
  const first = soundOnly === null;
  soundOnly = s.agent.sound_only;
  if (first) return;
  plots.film(title.duration_ms / 1000, ladder());
  $('unmute').hidden = !await player.again(s);
}

function fill(id, main, small) {
  $(id).replaceChildren(main, ...(small ? [element('small', {}, small)] : []));
}

function showBuffer() {
  $('buffer').textContent = `${player.buffer.toFixed(1)} s`;
}

function showBudget(s) {
  $('budget-box').hidden = $('meter').hidden = !s.paid;
  if (!s.paid) {
    $('budget-help').textContent = 'This film is free: nothing is paid.';
    return;
  }
  if (!sliding) {
    const top = Math.ceil(Math.max((s.dearest_msat + s.bytes_dearest_msat) * 1.25, s.budget_msat ?? 0, 1000) / 1000);
    $('budget').max = top;
    const value = s.budget_msat === null ? top : Math.floor(s.budget_msat / 1000);
    $('budget').value = value;
    $('budget').setAttribute('aria-valuetext', `${value} sat`);
    if (document.activeElement !== $('budget-number')) $('budget-number').value = value;
  }
  const dearest = ladder().at(-1), allowed = ladder().filter(r => r.allowed).at(-1);
  let words = `The whole film: ${sats(s.cheapest_msat)} at the lowest quality, ${sats(s.dearest_msat)} at the best.`;
  if (s.bytes_dearest_msat) words += ` Its bytes cost ${span(s.bytes_cheapest_msat, s.bytes_dearest_msat)} more, where none come for nothing.`;
  if (!s.enough) words += ` From here to the end the lowest still costs ${sats(s.to_end_msat)}; ${sats(s.left_msat)} are left.`;
  else if (allowed && allowed !== dearest) words += ` What is left carries ${rungName(allowed)} to the end in any case.`;
  $('budget-help').textContent = words;
}

// --- the agent

function offerHeights() {
  const heights = [...new Set(state.rungs.filter(r => r.height).map(r => r.height))].sort((a, b) => a - b);
  $('min-height').replaceChildren(element('option', { value: 0 }, 'any quality'), ...heights.slice(1).map(h => element('option', { value: h }, `${h}p`)));
  $('min-height').hidden = $('min-height-label').hidden = heights.length < 2;
}

function showAgent(s) {
  const a = s.agent;
  if (document.activeElement !== $('profile')) $('profile').value = a.wish.profile || 'film';
  if (document.activeElement !== $('min-height')) $('min-height').value = a.wish.min_height;
  for (const w of weights) if (document.activeElement !== $(w)) $(w).value = a.wish[w] || '';
  $('why').replaceChildren(...why(a.why));
  $('outlook').textContent = outlook(s);
  $('limit-key').hidden = s.budget_msat === null;
  plots.money(s.position_ms / 1000, s.spent_msat, a.plan.map(p => [p.at_ms / 1000, p.msat]), s.budget_msat);
}

// why says in a sentence what comes next, and why it is not better.
function why(w) {
  if (!w) return ['Nothing more is bought: the film is at its end.'];
  const now = rungOf(w.rep), up = rungOf(w.better);
  const head = element('b', {}, `Next ${now ? rungName(now) : w.rep}.`);
  const name = up ? rungName(up) : w.better;
  const more = w.more_msat > 0 ? `${sats(w.more_msat)} more a segment` : 'no more';
  const gain = `${w.gain_db.toFixed(1)} dB`;
  switch (w.reason) {
    case 'best': return [head, ' There is no better quality.'];
    case 'bought': return [head, ' It is bought already.'];
    case 'money': return [head, ` For ${name} the money would not reach the end of the film.`];
    case 'price': return [head, ` ${name} costs ${more} for ${gain}: ${w.gain_db < 0.05 ? 'nobody would see it' : 'that buys more elsewhere in the film'}.`];
    case 'steady': return [head, ` ${name} costs ${more} for ${gain}: not worth a change of quality.`];
    case 'network': return [head, ` ${name} might come too late over this network.`];
    case 'unwanted': return [head, ` Better ones are not wanted.`];
    default: return [head];
  }
}

function outlook(s) {
  const a = s.agent, words = [];
  if (s.position_ms < s.duration_ms) words.push(`Planned from here to the end: ${sats(a.planned_msat)}.`);
  if (a.forecast) words.push(`The network is expected to carry ${rate(a.forecast)}.`);
  const wish = a.wish.min_height, top = ladder().filter(r => r.allowed).at(-1);
  if (wish && top && top.height < wish) words.push(`The budget does not carry ${wish}p to the end.`);
  return words.join(' ');
}

function showSellers(list = []) {
  $('sellers-card').hidden = !list.length;
  $('sellers').replaceChildren(...list.map(p => element('tr', p.state === 'banned' ? { class: 'bad' } : {}, seller(p.provider, '', p),
    element('td', { class: 'num' }, p.factor ? `${Math.round(p.factor * 100)} %` : '–'),
    element('td', { class: 'num' }, millis(p.latency_ns)),
    element('td', { class: 'num' }, String(p.sold)))));
}

// seller names a provider, and how it stands, in a table.
function seller(address, name, standing) {
  const { host } = new URL(address), state = standing.state === 'unknown' ? 'new to you' : standing.state;
  return element('td', { title: standing.why ?? address }, host, element('br'),
    element('small', {}, [name === host ? '' : name, standing.until ? `${state} until ${date(standing.until)}` : state].filter(Boolean).join(' · ')));
}

const millis = ns => ns ? `${ns < 1e7 ? (ns / 1e6).toFixed(1) : Math.round(ns / 1e6)} ms` : '–';

function risk(s) {
  if (!s.paid) return 'Nothing: this film is free.';
  const most = sats(s.risk_msat);
  switch (s.scheme) {
    case 'direct':
      return 'Nothing against the provider: the payment itself is the key. You pay only once the sealed bytes are here and checked.';
    case 'prepaid':
      return `You pay first and trust the provider to send: at most ${most} at a time.`;
    default:
      if (s.risk_msat) return `At most ${most} with one provider that proves nothing, because you allow such: it could sell a wrong key. That would be noticed at once, and it would not be paid again. You pay only once the sealed bytes are here and are what the publisher signed.`;
      return 'Nothing against a provider. Before each payment your proxy holds the whole sealed segment, checked, and a proof that the payment will buy its key. Who proves nothing is not paid. Left is the publisher, who could have sealed something else than the film; that would show at the first segment, for anybody to see.';
  }
}

// --- purchases and plots

function bought(list) {
  for (const p of list) {
    purchases.set(p.hash, p);
    if (p.state !== 'paid') continue;
    // A key may open several segments: each shows its share.
    const msat = (p.amount_msat + p.fee_msat) / p.opens;
    for (let i = p.first; i < p.first + p.opens; i++) mark(p.rep, i, { msat }, i === p.index);
  }
  const last = [...purchases.values()].slice(-400);
  purchases = new Map(last.map(p => [p.hash, p]));
  if (last.length) $('purchases').replaceChildren(...last.slice(-rows).reverse().map(row));
}

const kinds = { video: 'picture', audio: 'sound' };
const words = { paying: 'is being paid', failed: 'did not go through, no money moved', unknown: 'outcome not known yet' };

function row(p) {
  const r = rungOf(p.rep);
  const name = r ? `${kinds[r.kind] ?? r.kind} ${shortName(r)}` : p.rep === 'carriage' ? 'carrying bytes' : p.rep;
  const paid = p.state === 'paid' && !p.lost;
  const number = p.opens > 1 ? `no. ${p.first + 1}–${p.first + p.opens}` : `no. ${p.index + 1}`;
  const fate = !r && p.rep === 'carriage' && paid ? 'for sealed bytes that came' : p.rep === 'credentials' && paid ? 'so that nobody can tell who asks' : paid ? `${number}${p.proof ? ', proved' : ''}` : p.lost ? 'paid, and no key came' : words[p.state] ?? p.state;
  return element('tr', paid || p.state === 'paying' ? {} : { class: 'bad' },
    element('td', {}, time(p.at)),
    element('td', {}, `${name} `, element('small', {}, fate)),
    element('td', { class: 'num' }, satColumn(p.amount_msat)),
    element('td', { class: 'num wide-only' }, p.fee_msat ? satColumn(p.fee_msat) : '–'),
    element('td', { class: 'num' }, p.state !== 'paying' && p.took_ns ? `${Math.round(p.took_ns / 1e6)} ms` : '–'));
}

// mark puts a segment of the picture into the plots; its quality only if it was
// asked for.
function mark(rep, index, facts, asked = true) {
  const rungs = [...ladder()].sort((a, b) => a.bandwidth - b.bandwidth);
  const rung = rungs.findIndex(r => r.id === rep);
  if (rung < 0) return;
  const cap = rungs.findLastIndex(r => r.allowed);
  plots.add(index * title.duration_ms / 1000 / rungs[rung].count, asked ? { rung, cap, ...facts } : facts);
}

// --- what others sell

const marketRows = 40; // titles shown

$('look').addEventListener('click', async () => {
  $('look').disabled = true;
  $('market-note').textContent = 'Asking…';
  try {
    showMarket(await get('/api/market'));
  } catch (e) {
    $('market-note').textContent = e.message;
  }
  $('look').disabled = false;
  $('look').textContent = 'Look again';
});

function showMarket(r) {
  const shown = r.titles.slice(0, marketRows);
  $('market').replaceChildren(...shown.map(t => onSale(r, t)));
  const silent = r.providers.filter(p => p.error).length;
  const words = [];
  if (!shown.length) words.push('Nobody who answers sells anything.');
  else words.push('Prices are for the whole film, at its lowest quality and at its best, with all bytes from there, as providers say: free bytes may come from others. “Answers in” is the median of five small requests, not the time of a key.');
  if (r.more || shown.length < r.titles.length) words.push(`These are ${shown.length} of more titles: htlcdash market finds the others.`);
  if (silent) words.push(`${plural('provider', silent)} did not answer, or not truly.`);
  $('market-note').textContent = words.join(' ');
}

function span(low, high) {
  return low === high ? sats(high) : `${sat(low)} to ${sats(high)}`;
}

function onSale(r, t) {
  const play = element('button', { 'aria-label': `Play ${t.title}` }, 'Play');
  play.addEventListener('click', () => want(t, play));
  const rows = t.offers.map(o => {
    const p = r.providers[o.provider], atMost = o.priced ? '' : 'at most ';
    const bytes = o.per_mib_msat ? `${sats(o.per_mib_msat)} a MiB of bytes` : 'bytes are free';
    const keys = o.bytes_only ? 'no keys' : o.per_mib_msat ? `keys ${atMost}${span(o.min_msat, o.max_msat)}` : '';
    return element('tr', p.standing?.state === 'banned' ? { class: 'bad' } : {}, seller(p.address, p.name, p.standing ?? { state: 'unknown' }),
      element('td', { class: 'num' }, `${atMost}${span(o.whole_min_msat, o.whole_max_msat)}`, element('br'),
        element('small', {}, [keys, bytes].filter(Boolean).join(', '))),
      element('td', { class: 'num' }, millis(p.latency_ns)));
  });
  const head = (words, ...kind) => element('th', { scope: 'col', ...Object.fromEntries(kind.map(k => ['class', k])) }, words);
  return element('article', {},
    element('div', { class: 'head' }, element('h3', { title: t.id }, t.title, ' ', element('small', {}, `${clock(t.duration_ms / 1000)} · by ${shortKey(t.publisher)}`)), play),
    element('table', {}, element('thead', {}, element('tr', {}, head('Provider'), head('Whole film', 'num'), head('Answers in', 'num'))), element('tbody', {}, ...rows)));
}

// want plays a title of the market, which the proxy finds and checks first.
async function want(t, button) {
  const has = () => titles.find(x => x.id === t.id);
  button.disabled = true;
  button.textContent = 'Finding it…';
  try {
    if (!has()) {
      await post('/api/want', { title: t.id });
      history.replaceState(null, '', `#${t.id}`); // for a page that has no film yet
    }
    for (let tries = 0; !has() && tries < 60; tries++) {
      await new Promise(done => setTimeout(done, 500));
      titles = await get('/api/titles');
    }
    if (!has()) throw new Error('Its providers do not show it to your proxy, or its publisher is not one of yours.');
    if (title) {
      offerTitles();
      $('title').value = t.id;
      await choose(has());
    }
    scrollTo({ top: 0 });
  } catch (e) {
    $('market-note').textContent = e.message;
  }
  button.disabled = false;
  button.textContent = 'Play';
}

// --- trouble

// tell says what is wrong now, in order of what a person must do about it.
function tell() {
  const s = state, t = s.trouble;
  $('again').hidden = !player.failed || s.stopped;
  if (lost) return notice('The proxy does not answer.', 'Is it still running? This page goes on by itself once it is back.', true);
  if (s.stopped) return notice('Stopped: nothing is paid.', 'What is bought already is kept.', false);
  if (t) return notice(t.text, t.then, true);
  if (player.failed) return notice('The player gave up.', 'Trying again.', true);
  if (s.paid && !s.enough && s.position_ms < s.duration_ms) {
    return notice('The budget does not reach the end of the film.', 'Raise it, or it stops where the money is out.', false);
  }
  $('notice').hidden = true;
}

function notice(text, then, bad) {
  if ($('notice-text').textContent !== text) $('notice-text').textContent = text; // or it is read aloud again
  if ($('notice-then').textContent !== then) $('notice-then').textContent = then;
  $('notice').classList.toggle('bad', bad);
  $('notice').hidden = false;
}

// failed is called when the player has given up. What can pass by itself is
// tried again after a while; for the budget a person must act.
function failed(code) {
  tell();
  clearTimeout(retry);
  if (!['budget', 'stopped'].includes(state.trouble?.kind)) retry = setTimeout(again, retryAfter);
}

async function again() {
  clearTimeout(retry);
  if (!player.failed || state.stopped) return;
  $('unmute').hidden = !await player.again(state);
}

// --- controls

async function change(path, body) {
  try {
    state = (await post(path, { title: title.id, ...body })).title;
    show();
    await again();
  } catch (e) {
    notice('That did not work.', e.message, true);
  }
}

$('stop').addEventListener('click', async () => {
  const resume = state.stopped;
  await change(resume ? '/api/resume' : '/api/stop', {});
  if (resume && !state.stopped) await player.play();
});

const setBudget = sat => change('/api/budget', { msat: Math.round(sat) * 1000 });

for (const id of ['profile', 'min-height', ...weights]) {
  $(id).addEventListener('change', () => {
    $(id).blur();
    const own = Object.fromEntries(weights.map(w => [w, +$(w).value])); // 0: as the profile has it
    change('/api/preferences', { ...state.agent.wish, ...own, profile: $('profile').value, min_height: +$('min-height').value });
  });
}

$('budget').addEventListener('input', () => {
  sliding = true;
  $('budget-number').value = $('budget').value;
});
$('budget').addEventListener('change', () => {
  sliding = false;
  setBudget(+$('budget').value);
});
for (const end of ['pointerup', 'blur']) $('budget').addEventListener(end, () => setTimeout(() => { sliding = false; }));
$('budget-number').addEventListener('change', () => {
  const n = +$('budget-number').value;
  if (Number.isFinite(n) && n >= 0) setBudget(n);
});
$('again').addEventListener('click', again);
$('unmute').addEventListener('click', () => {
  $('video').muted = false;
  $('unmute').hidden = true;
  $('video').focus();
});

window.htlcdash = { player, get state() { return state; } }; // for tests and the curious
