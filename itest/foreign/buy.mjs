// Buys what lies at a URL as a client that is not ours, with a wallet over
// lnd's REST interface, then asks again with the credential it got.
//
//   node buy.mjs URL l402|mpp
//
// LND_REST and LND_MACAROON (hexadecimal) name the wallet, NODE_EXTRA_CA_CERTS
// its certificate.
import { createHash } from "node:crypto";
import { fetchWithL402 } from "@getalby/lightning-tools/402/l402";
import { fetchWithMpp } from "@getalby/lightning-tools/402/mpp";

const [url, scheme] = process.argv.slice(2);
const pay = { l402: fetchWithL402, mpp: fetchWithMpp }[scheme];
let payments = 0;

const wallet = {
  async payInvoice({ invoice }) {
    payments++;
    const response = await fetch(`${process.env.LND_REST}/v2/router/send`, {
      method: "POST",
      headers: { "Grpc-Metadata-macaroon": process.env.LND_MACAROON },
      body: JSON.stringify({ payment_request: invoice, timeout_seconds: 20, fee_limit_sat: "10", no_inflight_updates: true }),
    });
    const { result, error } = JSON.parse((await response.text()).trim().split("\n").at(-1));
    if (result?.status !== "SUCCEEDED") throw new Error(JSON.stringify(error ?? result?.failure_reason));
    return { preimage: result.payment_preimage };
  },
};

if (scheme === "mpp") {
  // The library reads the first challenge of an answer and no other. Ours for
  // this scheme stands second.
  const plainFetch = globalThis.fetch;
  globalThis.fetch = async (...args) => {
    const response = await plainFetch(...args);
    const challenge = response.headers.get("www-authenticate")?.replace(/^.*?(?=Payment id=)/s, "");
    if (!challenge) return response;
    return new Response(response.body, { status: response.status, headers: { "WWW-Authenticate": challenge } });
  };
}

const first = await pay(url, {}, { wallet });
const body = Buffer.from(await first.arrayBuffer());
const again = await pay(url, { headers: { Range: "bytes=1-4" } }, { wallet, credentials: first.payment?.credentials });
console.log(JSON.stringify({
  status: first.status,
  bytes: body.length,
  sha256: createHash("sha256").update(body).digest("hex"),
  amountSat: first.payment?.amountSat,
  receipt: first.headers.get("payment-receipt") !== null,
  againStatus: again.status,
  again: Buffer.from(await again.arrayBuffer()).toString("hex"),
  payments,
}));
