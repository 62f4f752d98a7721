// Two small plots over the time of the film: what each segment of the picture
// cost, and its quality beside what the budget allows.
import { sat, clock, rungName } from './format.js';

const height = 118;

const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Plots {
  #boxes; #plots = []; #film; #points = new Map(); #data = [[], [], [], []]; #due = 0;

  constructor(priceBox, rungBox) {
    this.#boxes = [priceBox, rungBox];
    new ResizeObserver(() => this.#resize()).observe(priceBox);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#build());
  }

  // film begins anew: duration in seconds, the rungs of the picture.
  film(duration, rungs) {
    this.#film = { duration, rungs: [...rungs].sort((a, b) => a.bandwidth - b.bandwidth) };
    this.#points.clear();
    this.#build();
  }

  // add merges what is known of the segment that starts at a time: {msat, rung, cap}.
  add(start, facts) {
    const p = this.#points.get(start) ?? {};
    this.#points.set(start, { ...p, ...facts });
    this.#due ||= requestAnimationFrame(() => { this.#due = 0; this.#draw(); });
  }

  #draw() {
    const at = [...this.#points.keys()].sort((a, b) => a - b);
    const of = name => at.map(t => this.#points.get(t)[name] ?? null);
    this.#data = [at, of('msat').map(m => m === null ? null : m / 1000), of('rung'), of('cap')];
    const [x, price, rung, cap] = this.#data;
    this.#plots[0]?.setData([x, price]);
    this.#plots[1]?.setData([x, rung, cap]);
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
    const cap = { ...rung, label: 'budget allows', stroke: css('--soft'), width: 1.5, dash: [5, 4] };
    this.#plots = [
      this.#plot(this.#boxes[0], duration, [price],
        { range: (_, min, max) => [0, (max || 1) * 1.08] },
        { values: (_, ticks) => ticks.map(v => sat(v * 1000)), splits: (_, i, min, max) => ticks(max, 3) }, false),
      this.#plot(this.#boxes[1], duration, [rung, cap],
        { range: [-0.3, top + 0.3] },
        { values: (_, ticks) => ticks.map(i => rungs[i] ? rungName(rungs[i]) : ''), splits: rungs.map((_, i) => i) }, true),
    ];
    this.#draw();
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
