// Whatever is shown is set as text: much of it was written by the other side of a call.

const shownHappenings = 500;
const byId = (id) => document.getElementById(id);

function row(cells) {
  const line = document.createElement('tr');
  for (const cell of cells) line.insertCell().textContent = String(cell);
  return line;
}

const rounded = (value) =>
  typeof value === 'number' && !Number.isInteger(value) ? value.toFixed(2) : value;

const show = {
  service({ service, pid, url, state }) {
    const line = row([service, pid, url || '–', state]);
    line.dataset.pid = pid;
    line.classList.toggle('bad', state !== 'running');
    const known = byId('services').querySelector(`[data-pid="${Number(pid)}"]`);
    if (known) known.replaceWith(line);
    else byId('services').append(line);
  },
  step(title) {
    const heading = document.createElement('h3');
    heading.textContent = title;
    byId('steps').append(heading, document.createElement('ul'));
  },
  expectation({ what, expected, actual, held }) {
    const text = (value) => (typeof value === 'string' ? value : JSON.stringify(value));
    const item = document.createElement('li');
    item.textContent = held
      ? `✓ ${what}: ${text(actual)}`
      : `✗ ${what}: ${text(actual)}, expected ${text(expected)}`;
    item.classList.toggle('bad', !held);
    byId('steps').lastElementChild.append(item);
  },
  happening({ atMs, service, channel, details }) {
    const [, name, event] = channel.split(':');
    const time = new Date(atMs).toISOString().slice(11, 23);
    const told = Object.entries(details).map(([key, value]) => `${key} ${rounded(value)}`);
    const lines = byId('happenings');
    lines.prepend(row([time, service, name, event, told.join(', ')]));
    if (lines.rows.length > shownHappenings) lines.lastElementChild.remove();
  },
};

const sights = new EventSource('/sights');
sights.onopen = () => {
  // All of it comes again with every connection.
  for (const id of ['services', 'steps', 'happenings']) byId(id).replaceChildren();
  byId('connection').textContent = 'live';
};
sights.onerror = () => {
  byId('connection').textContent = 'the demo has ended, or cannot be reached';
};
sights.onmessage = ({ data }) => {
  for (const [kind, sight] of Object.entries(JSON.parse(data))) show[kind](sight);
};

byId('order').onclick = async () => {
  byId('order').disabled = true;
  const answer = await fetch('/orders', { method: 'POST' })
    .then((response) => response.text())
    .catch(() => 'the demo cannot be reached');
  byId('answer').textContent = answer;
  byId('order').disabled = false;
};
