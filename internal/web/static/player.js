// dash.js, told to spend little: a short buffer, no segment fetched twice for
// a better quality, and no rung above what the budget carries.

const bufferAhead = 12; // seconds

export class Player {
  #video; #player; #source; #begin = 0; #stopped = false; #failed = false; #onFailure; #onSegment;

  // onFailure(code) is called when the player gives up, onSegment(rep, index)
  // for each segment that it has got.
  constructor(video, onFailure, onSegment) {
    this.#video = video;
    this.#onFailure = onFailure;
    this.#onSegment = onSegment;
  }

  // open starts a title. state is what the proxy says of it now: which rungs
  // to start with, and what the budget carries.
  open(title, state, at = 0) {
    this.#player?.destroy();
    this.#failed = false;
    this.#source = title;
    const player = this.#player = dashjs.MediaPlayer().create();
    player.initialize(this.#video, null, false);
    player.updateSettings({
      debug: { logLevel: 1 },
      streaming: {
        buffer: {
          bufferTimeDefault: bufferAhead,
          bufferTimeAtTopQuality: bufferAhead,
          bufferTimeAtTopQualityLongForm: bufferAhead,
          fastSwitchEnabled: false,
        },
        abr: { initialBitrate: startRates(state) },
        lastBitrateCachingInfo: { enabled: false },
        lastMediaSettingsCachingInfo: { enabled: false },
        utcSynchronization: { enabled: false },
      },
    });
    this.bound(state);
    player.on('error', e => this.#fail(e));
    player.on('fragmentLoadingCompleted', ({ request: r, error }) => {
      if (!error && r.type === 'MediaSegment') this.#onSegment(r.representation.id, r.index);
    });
    player.on('streamInitialized', () => this.bound(state)); // after what the MPD said
    this.#begin = at;
    player.attachSource(`${title.mpd}?all=1&t=${at.toFixed(1)}`, at || undefined);
  }

  // bound keeps the player below what the budget carries, from the next
  // segment on.
  bound(state) {
    const kind = state.rungs.some(r => r.kind === 'video') ? 'video' : 'audio';
    const kbps = state.cap ? state.cap / 1000 + 0.5 : -1;
    // What the proxy has bought ahead comes at once. The player takes that for
    // its own cache and learns nothing from it, and so stays low for long. On a
    // network that is quick anyway it may learn from it.
    const cached = state.quick ? { video: 0, audio: 0 } : { video: 10, audio: 5 }; // ms
    this.#player?.updateSettings({ streaming: { abr: { maxBitrate: { [kind]: kbps } }, cacheLoadThresholds: cached } });
  }

  // hold pauses, and asks for nothing while it is paused.
  hold(on) {
    if (this.#stopped === on) return;
    this.#stopped = on;
    this.#player?.updateSettings({ streaming: { scheduling: { scheduleWhilePaused: !on } } });
    if (on) this.#video.pause();
  }

  // play starts with sound if the browser lets us, else without. It reports
  // whether the sound is off.
  async play() {
    try {
      await this.#video.play();
      return false;
    } catch (e) {
      if (e.name !== 'NotAllowedError' || this.#video.muted) return false;
    }
    this.#video.muted = true;
    await this.#video.play().catch(() => {});
    return true;
  }

  get failed() { return this.#failed; }

  // again starts anew where the film stands.
  again(state) {
    this.open(this.#source, state, this.#video.currentTime || this.#begin);
    return this.play();
  }

  // buffer is how many seconds lie ahead.
  get buffer() {
    const v = this.#video, b = v.buffered;
    for (let i = 0; i < b.length; i++) {
      if (b.start(i) <= v.currentTime + 0.3 && v.currentTime < b.end(i)) return b.end(i) - v.currentTime;
    }
    return 0;
  }

  // metrics are for tests and benchmarks.
  get metrics() {
    const q = this.#video.getVideoPlaybackQuality();
    return {
      time: this.#video.currentTime, ended: this.#video.ended, buffer: this.buffer, failed: this.failed,
      frames: q.totalVideoFrames, dropped: q.droppedVideoFrames,
    };
  }

  #fail(e) {
    if (this.failed) return;
    this.#failed = true;
    this.#onFailure(e.error?.code ?? 0);
  }
}

function startRates(state) {
  const rates = {};
  for (const r of state.rungs) {
    if (state.start.includes(r.id)) rates[r.kind] = r.bandwidth / 1000 + 0.5;
  }
  return rates;
}
