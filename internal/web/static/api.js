// The JSON interface of the proxy.

export async function get(path) {
  return read(await fetch(path));
}

// post changes something. The header keeps other origins from doing so.
export async function post(path, body) {
  return read(await fetch(path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', 'X-Htlcdash': '1' },
    body: JSON.stringify(body),
  }));
}

async function read(response) {
  if (!response.ok) throw new Error((await response.text()).trim() || response.statusText);
  return response.json();
}

// watch follows a stream of events. It goes on after a break, also after one
// that the browser does not mend by itself; lost tells whether the stream is
// down. It returns a function that ends it.
export function watch(path, handlers, lost) {
  let stream, timer;
  const open = () => {
    stream = new EventSource(path);
    for (const [name, handle] of Object.entries(handlers)) {
      stream.addEventListener(name, e => handle(JSON.parse(e.data)));
    }
    stream.addEventListener('open', () => lost(false));
    stream.addEventListener('error', () => {
      lost(true);
      if (stream.readyState === EventSource.CLOSED) timer = setTimeout(open, 3000);
    });
  };
  open();
  return () => {
    clearTimeout(timer);
    stream.close();
  };
}
