// Holds TLS sessions with node: reads lines "PORT VERSION WAY ACT SIZE LINE", writes "LINE RESULT" for each.
'use strict';
const net = require('net');
const readline = require('readline');
const tls = require('tls');

function hold(port, version, way, act, size, line) {
  return new Promise((resolve, reject) => {
    const protocol = 'TLSv' + version;
    const tcp = net.connect({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen: way === 'allowHalfOpen' });
    const client = tls.connect({
      socket: tcp, allowHalfOpen: way === 'allowHalfOpen', servername: 'localhost',
      minVersion: protocol, maxVersion: protocol, rejectUnauthorized: false,
    });
    let got = 0;
    client.setTimeout(10000, () => client.destroy(new Error('nothing comes')));

    const close = {
      end: () => client.end(),
      allowHalfOpen: () => client.end(),
      destroySoon: () => client.destroySoon(),
      destroy: () => client.destroy(),
      bare: () => tcp.destroy(),
      reset: () => tcp.resetAndDestroy(),
    }[way];

    client.on('secureConnect', () => {
      client.write(`${act} ${size}\n`);
      if (act === 'line') client.write(line + '\n', close);
      if (act === 'half') client.end(line + '\n');
      if (act === 'end') client.write(line + '\n');
    });
    client.on('data', (data) => {
      got += data.length;
      if (act === 'answer' && got === size) client.write(line + '\n', close);
    });
    client.on('end', () => { if (act === 'half' || act === 'end') close(); });
    client.on('error', reject);
    client.on('close', () => resolve(got));
    tcp.on('close', () => resolve(got));
  });
}

async function main() {
  for await (const job of readline.createInterface({ input: process.stdin })) {
    const [port, version, way, act, size, line] = job.split(' ');
    const result = await hold(Number(port), version, way, act, Number(size), line).catch((error) => error.message);
    console.log(line, result);
  }
}

main();
