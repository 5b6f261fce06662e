// Our short list for gomemcache: gomemcache HOST PORT; one line a step, exit 1 at the first surprise.
package main

import (
	"bytes"
	"fmt"
	"os"

	"github.com/bradfitz/gomemcache/memcache"
)

func step(name string, got, wanted interface{}) {
	if fmt.Sprint(got) != fmt.Sprint(wanted) {
		fmt.Printf("not ok %s: %.200v instead of %.200v\n", name, got, wanted)
		os.Exit(1)
	}
	fmt.Println("ok", name)
}

func value(client *memcache.Client, key string) string {
	item, err := client.Get(key)
	if err != nil {
		return err.Error()
	}
	return string(item.Value)
}

func main() {
	client := memcache.New(os.Args[1] + ":" + os.Args[2])
	put := func(key, text string) *memcache.Item { return &memcache.Item{Key: key, Value: []byte(text), Flags: 7} }
	step("set", client.Set(put("k", "v")), nil)
	item, err := client.Get("k")
	step("get", fmt.Sprint(string(item.Value), item.Flags, err), "v7 <nil>")
	step("add present", client.Add(put("k", "w")), memcache.ErrNotStored)
	item.Value = []byte("c")
	step("cas", client.CompareAndSwap(item), nil)
	step("cas again", client.CompareAndSwap(item), memcache.ErrCASConflict)
	client.Set(put("n", "9"))
	up, _ := client.Increment("n", 3)
	down, _ := client.Decrement("n", 20)
	step("counter", []uint64{up, down}, []uint64{12, 0})
	keys := []string{"none"}
	for i := 0; i < 200; i++ {
		keys = append(keys, fmt.Sprintf("m%d", i))
		client.Set(put(keys[i+1], "x"))
	}
	many, err := client.GetMulti(keys)
	step("many", fmt.Sprint(len(many), err), "200 <nil>")
	large := bytes.Repeat([]byte("x"), 900000)
	step("large", client.Set(&memcache.Item{Key: "large", Value: large}), nil)
	step("large back", len(value(client, "large")), 900000)
	step("delete", client.Delete("k"), nil)
	step("delete again", client.Delete("k"), memcache.ErrCacheMiss)
	step("miss", value(client, "k"), memcache.ErrCacheMiss.Error())
}
