"""A libtorrent 2 client, driven by a test: one command a line on standard input,
one answer a line on standard output.

  seed TORRENT FOLDER          -> the port it listens on
  fetch TORRENT|MAGNET FOLDER HOST PORT -> "done" when all of it is there
  uploaded                     -> bytes of files that it has sent
  infohashes TORRENT           -> both infohashes of it
  make FOLDER TORRENT          -> both infohashes of a torrent of FOLDER/sealed
"""
import os
import sys
import time

import libtorrent as lt


def session():
    return lt.session({
        "listen_interfaces": "127.0.0.1:0",
        # Ours speak no uTP, and it is tried first, for three seconds.
        "enable_outgoing_utp": False, "enable_incoming_utp": False,
        "enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
        "allow_multiple_connections_per_ip": True,
        "alert_mask": lt.alert.category_t.all_categories,
    })


def seed(ses, torrent, folder):
    p = lt.add_torrent_params()
    p.ti, p.save_path = lt.torrent_info(torrent), folder
    h = ses.add_torrent(p)
    while not h.status().is_seeding:
        time.sleep(0.05)
    return ses.listen_port()


def fetch(ses, what, folder, host, port):
    if what.startswith("magnet:"):
        p = lt.parse_magnet_uri(what)
    else:
        p = lt.add_torrent_params()
        p.ti = lt.torrent_info(what)
    p.save_path, p.peers = folder, [(host, int(port))]
    h = ses.add_torrent(p)
    again = time.time() + 5
    while not h.status().is_seeding:
        for a in ses.pop_alerts():
            print(a, file=sys.stderr)
        if time.time() > again:
            h.connect_peer((host, int(port)))
            again = time.time() + 5
        time.sleep(0.05)
    h.flush_cache()
    while not any(isinstance(a, lt.cache_flushed_alert) for a in ses.pop_alerts()):
        time.sleep(0.05)
    return "done"


def make(folder, torrent):
    files = lt.file_storage()
    lt.add_files(files, os.path.join(folder, "sealed"))
    t = lt.create_torrent(files, 256 << 10)
    lt.set_piece_hashes(t, folder)
    with open(torrent, "wb") as f:
        f.write(lt.bencode(t.generate()))
    return infohashes(torrent)


def infohashes(torrent):
    h = lt.torrent_info(torrent).info_hashes()
    return f"{h.v1} {h.v2}"


def main():
    ses = session()
    for line in sys.stdin:
        command, *args = line.split()
        if command == "seed":
            answer = seed(ses, *args)
        elif command == "fetch":
            answer = fetch(ses, *args)
        elif command == "uploaded":
            answer = sum(h.status().total_payload_upload for h in ses.get_torrents())
        elif command == "make":
            answer = make(*args)
        elif command == "infohashes":
            answer = infohashes(*args)
        else:
            sys.exit(f"no command {command}")
        print(answer, flush=True)


main()
