<?php
// Our short list for php-memcached: memcached.php HOST PORT; one line a step, exit 1 at the first surprise.

function step($name, $got, $wanted)
{
    if ($got !== $wanted) {
        echo "not ok $name: ", substr(json_encode($got), 0, 200), ' instead of ', substr(json_encode($wanted), 0, 200), "\n";
        exit(1);
    }
    echo "ok $name\n";
}

foreach ([false, true] as $binary) {
    $client = new Memcached();
    $client->setOption(Memcached::OPT_BINARY_PROTOCOL, $binary);
    $client->setOption(Memcached::OPT_COMPRESSION, false);
    $client->addServer($argv[1], (int) $argv[2]);
    step('flush', $client->flush(), true);
    step('set, get', [$client->set('k', 'v', 100), $client->get('k')], [true, 'v']);
    step('types', [$client->set('a', ['x' => 1]), $client->get('a')], [true, ['x' => 1]]);
    step('add, replace', [$client->add('k', 'w'), $client->replace('k', 'w')], [false, true]);
    step('append, prepend', [$client->append('k', '>'), $client->prepend('k', '<'), $client->get('k')], [true, true, '<w>']);
    $token = $client->get('k', null, Memcached::GET_EXTENDED)['cas'];
    step('cas', [$client->cas($token, 'k', 'c'), $client->cas($token, 'k', 'd')], [true, false]);
    step('counter', [$client->set('n', 9), $client->increment('n', 3), $client->decrement('n', 20)], [true, 12, 0]);
    $many = [];
    for ($i = 0; $i < 200; $i++) {
        $many["m$i"] = $i;
    }
    step('many', [$client->setMulti($many), $client->getMulti(array_keys($many), Memcached::GET_PRESERVE_ORDER)], [true, $many]);
    $large = str_repeat('x', 900000);
    step('large', [$client->set('large', $large), $client->get('large') === $large], [true, true]);
    step('touch, delete', [$client->touch('k', 100), $client->delete('k'), $client->get('k')], [true, true, false]);
    $client->quit();
}
