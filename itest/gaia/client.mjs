// Writes the files of a folder to a Gaia hub, or reads them back from it, with
// the storage library of Stacks.
//
//   node client.mjs write|read HUB FOLDER PREFIX FILE...
//
// GAIA_KEY is the secret key, hexadecimal. "read" compares each file with that
// of the folder. Both print the address of the bucket and how many files it were.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Storage, connectToGaiaHub } from "@stacks/storage";

const [what, hub, folder, prefix, ...files] = process.argv.slice(2);
const gaiaHubConfig = await connectToGaiaHub(hub, process.env.GAIA_KEY);

// What the library asks of a session that somebody has signed in to.
const data = { userData: { appPrivateKey: process.env.GAIA_KEY, gaiaHubConfig }, etags: {} };
const session = {
  isUserSignedIn: () => true,
  loadUserData: () => data.userData,
  store: { getSessionData: () => data, setSessionData: () => true },
};
const storage = new Storage({ userSession: session });

for (const file of files) {
  const bytes = readFileSync(join(folder, file));
  if (what === "write") {
    await storage.putFile(`${prefix}/${file}`, bytes, { encrypt: false, contentType: "application/octet-stream" });
    continue;
  }
  const got = Buffer.from(await storage.getFile(`${prefix}/${file}`, { decrypt: false }));
  if (!got.equals(bytes)) throw new Error(`${file}: ${got.length} bytes, which are not those of the folder`);
}
console.log(JSON.stringify({ address: gaiaHubConfig.address, files: files.length }));
