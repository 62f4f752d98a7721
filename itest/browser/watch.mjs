// Opens a page in Chromium, watches its video to the end, and prints what
// happened as one line of JSON.
//
//   node watch.mjs URL [--seconds N] [--until SECONDS_OF_FILM] [--shot FILE]
//                      [--size WxH] [--dark] [--click SELECTOR]
//                      [--stop] [--read ID,ID]
//
// With --stop it stops paying at the end, and waits until no payment is in flight.
// With --read it tells what stands in these elements then, without small print.
//
// Start-up is counted from the request for the manifest to the first frame
// shown, so that the loading of the page itself does not count.
import { chromium } from "playwright-core";

const [url, ...rest] = process.argv.slice(2);
const options = {};
for (let i = 0; i < rest.length; i++) {
  const name = rest[i].replace(/^--/, "");
  options[name] = rest[i + 1] === undefined || rest[i + 1].startsWith("--") ? true : rest[++i];
}
const seconds = Number(options.seconds ?? 90);
const [width, height] = (options.size ?? "1280x800").split("x").map(Number);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--mute-audio",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
  ],
});
const page = await browser.newPage({
  viewport: { width, height },
  colorScheme: options.dark ? "dark" : "light",
});
const complaints = [];
const statuses = {};
page.on("console", (m) => m.type() === "error" && complaints.push(m.text()));
page.on("pageerror", (e) => complaints.push(String(e)));
page.on("response", (r) => (statuses[r.status()] = (statuses[r.status()] ?? 0) + 1));

// Runs in the page before its own scripts.
await page.addInitScript(() => {
  const seen = { stalls: [], heights: [], firstFrame: null };
  window.htlcdashWatch = seen;
  const watch = (video) => {
    video.requestVideoFrameCallback?.(() => (seen.firstFrame = performance.now()));
    let since = null;
    video.addEventListener("waiting", () => {
      if (seen.firstFrame !== null && !video.seeking && !video.ended) since = performance.now();
    });
    const resume = () => {
      if (since !== null) seen.stalls.push({ at: video.currentTime, ms: performance.now() - since });
      since = null;
    };
    video.addEventListener("playing", resume);
    video.addEventListener("timeupdate", () => {
      resume();
      if (!video.paused) seen.heights.push(video.videoHeight);
    });
  };
  new MutationObserver((_, observer) => {
    const video = document.querySelector("video");
    if (video) {
      observer.disconnect();
      watch(video);
    }
  }).observe(document, { childList: true, subtree: true });
});

await page.goto(url);
if (options.click) await page.click(options.click);
const measure = () => page.evaluate(() => {
  const video = document.querySelector("video");
  if (!video) return null;
  const quality = video.getVideoPlaybackQuality();
  const manifest = performance.getEntriesByType("resource").find((e) => e.name.includes(".mpd"));
  const { stalls, heights, firstFrame } = window.htlcdashWatch;
  return {
    ended: video.ended,
    position: video.currentTime,
    duration: video.duration,
    frames: quality.totalVideoFrames,
    dropped: quality.droppedVideoFrames,
    startupMs: manifest && firstFrame !== null ? firstFrame - manifest.startTime : null,
    stalls,
    stallMs: stalls.reduce((sum, s) => sum + s.ms, 0),
    meanHeight: heights.length ? heights.reduce((a, b) => a + b) / heights.length : 0,
    maxHeight: Math.max(0, ...heights),
    error: video.error?.message ?? null,
  };
});

let result = null;
const deadline = Date.now() + seconds * 1000;
while (Date.now() < deadline) {
  result = await measure();
  if (result?.ended || (options.until && result?.position >= Number(options.until))) break;
  await page.waitForTimeout(100);
}
if (options.shot) await page.screenshot({ path: options.shot });
if (options.stop) {
  await page.click("#stop");
  await page.waitForFunction(() => document.querySelector("#stop").getAttribute("aria-pressed") === "true" &&
    document.querySelector("#flight").firstChild.textContent === "0", null, { timeout: 60_000 });
}
const texts = {};
for (const id of options.read?.split(",") ?? []) {
  texts[id] = await page.waitForFunction((id) => {
    const text = document.getElementById(id).firstChild?.textContent;
    return ["–", "…"].includes(text) ? null : text;
  }, id, { timeout: 60_000 }).then((text) => text.jsonValue());
}
console.log(JSON.stringify({ ...result, texts, complaints, statuses, heap: await heap() }));
await browser.close();

async function heap() {
  const client = await page.context().newCDPSession(page);
  const { usedSize } = await client.send("Runtime.getHeapUsage");
  return usedSize;
}
