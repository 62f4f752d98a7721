// dash.js, told to spend little: a short buffer, no segment fetched twice for
// a better quality. Of a film that is paid for it plays, segment by segment,
// what the proxy's agent has chosen. The choices for the next segments come with
// the state, so that no request waits for them.

const bufferAhead = 12; // seconds

export class Player {
  #video; #player; #source; #begin = 0; #stopped = false; #failed = false; #onFailure; #onSegment;
  #state; #next = {}; // by kind: when the segment begins that is to be asked for

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
        abr: { initialBitrate: startRates(state), ...(state.agent ? { rules: noRules } : {}) },
        lastBitrateCachingInfo: { enabled: false },
        lastMediaSettingsCachingInfo: { enabled: false },
        utcSynchronization: { enabled: false },
      },
    });
    this.#next = {};
    if (state.agent) {
      player.addABRCustomRule('qualitySwitchRules', 'AgentRule', ruleOf((kind, reps, period, now) => this.#choose(kind, reps, period, now)));
    }
    this.bound(state);
    player.on('error', e => this.#fail(e));
    player.on('playbackSeeking', () => { this.#next = {}; });
    player.on('fragmentLoadingStarted', ({ request: r }) => {
      if (r.type === 'MediaSegment') this.#next[r.mediaType] = r.startTime + r.duration;
    });
    player.on('fragmentLoadingCompleted', ({ request: r, error }) => {
      if (!error && r.type === 'MediaSegment') this.#onSegment(r.representation.id, r.index);
    });
    player.on('streamInitialized', () => this.bound(state)); // after what the MPD said
    this.#begin = at;
    player.attachSource(`${title.mpd}?all=1&t=${at.toFixed(1)}`, at || undefined);
  }

  // bound tells the player what the agent has chosen by now, and of a film
  // without an agent, what it may do.
  bound(state) {
    this.#state = state;
    // What the proxy has bought ahead comes at once. The player takes that for
    // its own cache and learns nothing from it, and so stays low for long. On a
    // network that is quick anyway it may learn from it.
    const cached = state.quick ? { video: 0, audio: 0 } : { video: 10, audio: 5 }; // ms
    this.#player?.updateSettings({ streaming: { cacheLoadThresholds: cached } });
  }

  // choose finds what the agent wants for the segment that is due. If it has not
  // said, the quality stays, or falls to what the budget carries in any case.
  #choose(kind, reps, period, now) {
    const at = this.#next[kind] ?? this.#video.currentTime;
    const s = this.#state;
    const wanted = s.agent?.coming.find(c => c.kind === kind && c.start_ms <= at * 1000 + 100 && at * 1000 + 100 < c.end_ms);
    const named = wanted && reps.find(r => r.id === wanted.rep || `${r.id}@${period + 1}` === wanted.rep);
    if (named) return named;
    const picture = s.rungs.some(r => r.kind === 'video') ? 'video' : 'audio';
    if (kind !== picture || !s.cap || now.bandwidth <= s.cap) return null;
    return reps.findLast(r => r.bandwidth <= s.cap) ?? reps[0];
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

// noRules turns off what dash.js would choose by itself.
const noRules = Object.fromEntries(
  ['throughputRule', 'bolaRule', 'insufficientBufferRule', 'switchHistoryRule', 'droppedFramesRule', 'abandonRequestsRule', 'l2ARule', 'loLPRule']
    .map(name => [name, { active: false }]));

// ruleOf makes a rule of dash.js out of a function that chooses, or gives null.
function ruleOf(choose) {
  function AgentRule() {
    const context = this.context;
    return {
      getClassName: () => 'AgentRule',
      getSwitchRequest(about) {
        const SwitchRequest = dashjs.FactoryMaker.getClassFactoryByName('SwitchRequest');
        const request = SwitchRequest(context).create();
        request.rule = 'AgentRule';
        const reps = about.getAbrController().getPossibleVoRepresentationsFilteredBySettings(about.getMediaInfo(), true);
        const chosen = choose(about.getMediaType(), [...reps].sort((a, b) => a.bandwidth - b.bandwidth), about.getStreamInfo().index, about.getRepresentation());
        if (chosen) Object.assign(request, { representation: chosen, reason: { agent: true }, priority: SwitchRequest.PRIORITY?.STRONG ?? 1 });
        return request;
      },
    };
  }
  AgentRule.__dashjs_factory_name = 'AgentRule';
  return dashjs.FactoryMaker.getClassFactory(AgentRule);
}
