// Three small plots over the time of the film: what each segment of the picture
// cost, its quality beside what the budget carries, and what was spent beside
// what is planned.
import { sat, clock, shortName } from './format.js';

const height = 118;

const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Plots {
  #boxes; #plots = []; #film; #points = new Map(); #due = 0;
  #spent = []; #plan = []; #budget = null; // [seconds, msat]; msat

  constructor(priceBox, rungBox, moneyBox) {
    this.#boxes = [priceBox, rungBox, moneyBox];
    new ResizeObserver(() => this.#resize()).observe(priceBox);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#build());
  }

  // film begins anew: duration in seconds, the rungs of the picture.
  film(duration, rungs) {
    this.#film = { duration, rungs: [...rungs].sort((a, b) => a.bandwidth - b.bandwidth) };
    this.#points.clear();
    this.#spent = [];
    this.#plan = [];
    this.#build();
  }

  // money says what is spent by a time of the film, and what the plan is from
  // there: [seconds, msat] of each. budget is null if there is none.
  money(at, msat, plan, budget) {
    if (this.#spent.length && at < this.#spent.at(-1)[0]) this.#spent = this.#spent.filter(p => p[0] < at);
    if (this.#spent.at(-1)?.[0] === at) this.#spent.pop();
    this.#spent.push([at, msat]);
    this.#plan = plan;
    this.#budget = budget;
    this.#later();
  }

  // add merges what is known of the segment that starts at a time: {msat, rung, cap}.
  add(start, facts) {
    const p = this.#points.get(start) ?? {};
    this.#points.set(start, { ...p, ...facts });
    this.#later();
  }

  #later() {
    this.#due ||= requestAnimationFrame(() => { this.#due = 0; this.#draw(); });
  }

  #draw() {
    const at = [...this.#points.keys()].sort((a, b) => a - b);
    const of = name => at.map(t => this.#points.get(t)[name] ?? null);
    this.#plots[0]?.setData([at, of('msat').map(m => m === null ? null : m / 1000)]);
    this.#plots[1]?.setData([at, of('rung'), of('cap')]);
    const table = points => [points.map(p => p[0]), points.map(p => p[1] / 1000)];
    const limit = this.#budget === null ? [] : [[0, this.#budget], [this.#film.duration, this.#budget]];
    this.#plots[2]?.setData(uPlot.join([table(this.#spent), table(this.#plan), table(limit)]));
  }

  #build() {
    if (!this.#film) return;
    for (const p of this.#plots) p.destroy();
    const { duration, rungs } = this.#film;
    const top = Math.max(1, rungs.length - 1);
    const price = {
      label: 'price', stroke: css('--accent'), fill: css('--accent'), width: 0, points: { show: false },
      paths: uPlot.paths.bars({ size: [0.7, 14, 1], align: 1 }),
    };
    const rung = {
      label: 'quality', stroke: css('--second'), width: 2.5, points: { show: false },
      paths: uPlot.paths.stepped({ align: 1 }),
    };
    const spent = { label: 'spent', stroke: css('--accent'), width: 2.5, points: { show: false }, spanGaps: true, paths: uPlot.paths.stepped({ align: 1 }) };
    const plan = { ...spent, label: 'planned', width: 1.8, dash: [5, 4] };
    const limit = { ...spent, label: 'budget', stroke: css('--soft'), width: 1 };
    const cap = { ...rung, label: 'budget allows', stroke: css('--soft'), width: 1.5, dash: [5, 4] };
    this.#plots = [
      this.#plot(this.#boxes[0], duration, [price],
        { range: (_, min, max) => [0, (max || 1) * 1.08] },
        { values: (_, ticks) => ticks.map(v => sat(v * 1000)), splits: (_, i, min, max) => ticks(max, 3) }, false),
      this.#plot(this.#boxes[1], duration, [rung, cap],
        { range: [-0.3, top + 0.3] },
        { values: (_, ticks) => ticks.map(i => rungs[i] ? shortName(rungs[i]) : ''), splits: rungs.map((_, i) => i) }, true),
      this.#plot(this.#boxes[2], duration, [spent, plan, limit],
        { range: () => [0, this.#top()] },
        { values: (_, ticks) => ticks.map(v => sat(v * 1000)), splits: (_, i, min, max) => ticks(max, 3) }, true),
    ];
    this.#draw();
  }

  // top is the scale of the money: the budget, unless it is far from what the
  // film costs.
  #top() {
    const most = Math.max(1000, ...this.#spent.map(p => p[1]), ...this.#plan.map(p => p[1]));
    return (this.#budget !== null && this.#budget < 2 * most ? Math.max(this.#budget, most) : most) / 1000 * 1.1;
  }

  #plot(box, duration, series, y, axis, labelled) {
    const grid = { stroke: css('--line'), width: 1 };
    const font = '11px system-ui, sans-serif', stroke = css('--soft');
    return new uPlot({
      width: box.clientWidth || 300, height,
      legend: { show: false }, cursor: { show: false }, select: { show: false }, padding: [8, 18, labelled ? null : 4, 0],
      scales: { x: { time: false, range: [0, duration] }, y },
      axes: [
        { font, stroke, grid: { show: false }, ticks: { show: false }, size: labelled ? 24 : 8, gap: 2, space: 60,
          values: (_, t) => t.map(v => labelled ? clock(v) : '') },
        { font, stroke, grid, ticks: { show: false }, size: 48, gap: 4, ...axis },
      ],
      series: [{}, ...series],
    }, [[], ...series.map(() => [])], box);
  }

  #resize() {
    this.#plots.forEach((p, i) => p.setSize({ width: this.#boxes[i].clientWidth, height }));
  }
}

// ticks are a few round numbers from 0 to max.
function ticks(max, n) {
  const raw = max / n, unit = 10 ** Math.floor(Math.log10(raw || 1));
  const step = [1, 2, 5, 10].find(k => k * unit >= raw) * unit;
  const out = [];
  for (let v = 0; v <= max; v += step) out.push(v);
  return out;
}
