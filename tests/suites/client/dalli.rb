# Our short list for dalli: dalli.rb HOST PORT; one line a step, exit 1 at the first surprise.
require 'dalli'

def step(name, got, wanted)
  if got == wanted
    puts "ok #{name}"
  else
    puts "not ok #{name}: #{got.inspect[0, 200]} instead of #{wanted.inspect[0, 200]}"
    exit 1
  end
end

client = Dalli::Client.new("#{ARGV[0]}:#{ARGV[1]}")
client.flush_all
step 'set, get', [client.set('k', 'v', 100) ? true : false, client.get('k')], [true, 'v']
step 'types', [client.set('h', { a: [1] }) ? true : false, client.get('h')], [true, { a: [1] }]
step 'add, replace', [client.add('k', 'w') ? true : false, client.replace('k', 'w') ? true : false], [false, true]
client.set('r', 'w', 0, raw: true)
client.append('r', '>')
client.prepend('r', '<')
step 'append, prepend', client.get('r', raw: true), '<w>'
step 'cas', client.cas('k') { |value| "#{value}!" } ? client.get('k') : nil, 'w!'
step 'counter', [client.incr('n', 3, 0, 10), client.incr('n', 3), client.decr('n', 99)], [10, 13, 0]
client.multi { 200.times { |i| client.set("m#{i}", i) } }
step 'quiet, many', client.get_multi(*(0...201).map { |i| "m#{i}" }).size, 200
large = 'x' * 900_000
step 'large', [client.set('large', large) ? true : false, client.get('large') == large], [true, true]
step 'touch, delete', [client.touch('k', 100) ? true : false, client.delete('k'), client.get('k')], [true, true, nil]
client.close
