// Our short list for the Node clients: node.js LIBRARY HOST PORT; one line a step, exit 1 at the first surprise.
'use strict';
const { promisify } = require('util');
const [library, host, port] = process.argv.slice(2);
const large = 'x'.repeat(900000);

function step(name, got, wanted) {
  const [a, b] = [JSON.stringify(got), JSON.stringify(wanted)];
  if (a !== b) {
    console.log(`not ok ${name}: ${a.slice(0, 200)} instead of ${b.slice(0, 200)}`);
    process.exit(1);
  }
  console.log(`ok ${name}`);
}

async function memjs() {
  const client = require('memjs').Client.create(`${host}:${port}`);
  const text = async (key) => { const { value } = await client.get(key); return value && value.toString(); };
  await client.flush();
  step('set, get', [await client.set('k', 'v', { expires: 100 }), await text('k')], [true, 'v']);
  step('add, replace', [await client.add('k', 'w', {}), await client.replace('k', 'w', {})], [false, true]);
  // prepend is left out: memjs 1.3 sends the opcode of append for it.
  step('append', [await client.append('k', '>'), await text('k')], [true, 'w>']);
  const rose = (await client.increment('n', 3, { initial: 10 })).value;
  step('counter', [rose, (await client.increment('n', 3, {})).value, (await client.decrement('n', 99, {})).value], [10, 13, 0]);
  await Promise.all(Array.from({ length: 200 }, (_, i) => client.set(`m${i}`, `${i}`, {})));
  const all = await Promise.all(Array.from({ length: 200 }, (_, i) => text(`m${i}`)));
  step('together', all, Array.from({ length: 200 }, (_, i) => `${i}`));
  step('large', [await client.set('large', large, {}), (await text('large')) === large], [true, true]);
  step('touch, delete', [await client.touch('k', 100), await client.delete('k'), await text('k')], [true, true, null]);
  step('stats', typeof (await promisify((done) => client.stats((e, server, stats) => done(e, stats)))()).version, 'string');
  client.quit();
}

async function memcached() {
  const client = new (require('memcached'))(`${host}:${port}`, { retries: 0 });
  const call = (name, ...args) => promisify(client[name].bind(client))(...args);
  const refused = (name, ...args) => call(name, ...args).then(() => true, () => false);
  await call('flush');
  step('set, get', [await call('set', 'k', 'v', 100), await call('get', 'k')], [true, 'v']);
  step('objects', [await call('set', 'o', { a: [1] }, 0), await call('get', 'o')], [true, { a: [1] }]);
  step('add, replace', [await refused('add', 'k', 'w', 0), await call('replace', 'k', 'w', 0)], [false, true]);
  step('append, prepend', [await call('append', 'k', '>'), await call('prepend', 'k', '<')], [true, true]);
  const { k, cas } = await call('gets', 'k');
  step('cas', [k, await call('cas', 'k', 'c', cas, 0), await call('cas', 'k', 'd', cas, 0)], ['<w>', true, false]);
  step('counter', [await call('set', 'n', 9, 0), await call('incr', 'n', 3), await call('decr', 'n', 20)], [true, 12, 0]);
  await Promise.all(Array.from({ length: 200 }, (_, i) => call('set', `m${i}`, `${i}`, 0)));
  const many = await call('getMulti', Array.from({ length: 201 }, (_, i) => `m${i}`));
  step('getMulti', Object.keys(many).length, 200);
  step('large', [await call('set', 'large', large, 0), (await call('get', 'large')) === large], [true, true]);
  step('touch, delete', [await call('touch', 'k', 100), await call('del', 'k'), await call('get', 'k')], [true, true, null]);
  step('version', typeof (await call('version'))[0].version, 'string');
  client.end();
}

({ memjs, memcached })[library]().catch((error) => { console.log(`not ok ${error.stack}`); process.exit(1); });
