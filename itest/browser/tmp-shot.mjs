import { chromium } from "playwright-core";
const [url, out, budget, wait, dark, size] = process.argv.slice(2);
const [width, height] = (size ?? "1380x1250").split("x").map(Number);
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", headless: true, args: ["--no-sandbox", "--disable-gpu", "--mute-audio", "--autoplay-policy=no-user-gesture-required"] });
const page = await browser.newPage({ viewport: { width, height }, colorScheme: dark === "dark" ? "dark" : "light" });
page.on("console", m => console.log("console:", m.text()));
page.on("pageerror", e => console.log("error:", String(e)));
const t0 = Date.now();
page.on("request", r => /\/t\/|api/.test(r.url()) && console.log(Date.now() - t0, "->", r.url().replace(url, "").replace(/[0-9a-f]{60}/, "").slice(0, 90)));
page.on("response", r => /\/t\//.test(r.url()) && console.log(Date.now() - t0, "<-", r.status(), r.url().replace(url, "").replace(/[0-9a-f]{60}/, "").slice(0, 40)));
if (budget !== "-") {
  const titles = await (await fetch(url + "api/titles")).json();
  await fetch(url + "api/budget", { method: "POST", headers: { "X-Htlcdash": "1", "Content-Type": "application/json" }, body: JSON.stringify({ title: titles[0].id, msat: +budget }) });
}
await page.goto(url);
await page.waitForTimeout(+wait);
await page.screenshot({ path: out, fullPage: true });
console.log(await page.evaluate(() => JSON.stringify({ m: htlcdash.player.metrics, a: htlcdash.state.agent.why, c: htlcdash.state.agent.coming.length, spent: htlcdash.state.spent_msat, net: htlcdash.state.network })));
await browser.close();
