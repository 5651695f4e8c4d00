// Command behaviour does what a compiler could get wrong in Go's functions, and
// prints what comes of it: calls, panics that are recovered, stacks that grow and
// move, goroutines that wait in all places, loops of every form.
package main

import (
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"runtime"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

type shape interface{ area() float64 }

type square struct{ side float64 }
type circle struct{ r float64 }

func (s square) area() float64  { return s.side * s.side }
func (c *circle) area() float64 { return 3 * c.r * c.r }

type node struct {
	left, right *node
	value       int
}

//go:noinline
func (n *node) insert(v int) *node {
	if n == nil {
		return &node{value: v}
	}
	if v < n.value {
		n.left = n.left.insert(v)
	} else {
		n.right = n.right.insert(v)
	}
	return n
}

func (n *node) sum() int {
	if n == nil {
		return 0
	}
	return n.left.sum() + n.value + n.right.sum()
}

// caught runs f and says what it has panicked with.
func caught(name string, f func()) {
	defer func() {
		if r := recover(); r != nil {
			if err, ok := r.(error); ok {
				r = err.Error()
			}
			fmt.Println(name, "panicked:", r)
		}
	}()
	f()
	fmt.Println(name, "returned")
}

//go:noinline
func named(fail bool) (out string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("recovered: %v", r)
		}
		out += "!"
	}()
	for i := range 3 {
		defer func() { out += strconv.Itoa(i) }()
	}
	out = "named"
	if fail {
		panic(out)
	}
	return out + "?", nil
}

func panics() {
	var none *node
	var m map[string]int
	var list []int
	var s shape
	zero := len(os.Args) - len(os.Args)
	caught("nil pointer", func() { fmt.Println(none.value) })
	caught("nil map", func() { m["a"] = 1 })
	caught("index", func() { fmt.Println(list[zero+3]) })
	caught("slice", func() { fmt.Println(list[zero+2 : zero+1]) })
	caught("divide", func() { fmt.Println(1 / zero) })
	caught("interface", func() { fmt.Println(s.area()) })
	caught("conversion", func() { fmt.Println(any(3).(string)) })
	caught("nested", func() {
		defer func() { panic(fmt.Sprint("again after ", recover())) }()
		panic("first")
	})
	caught("goexit", func() {
		done := make(chan bool)
		go func() {
			defer close(done)
			defer fmt.Println("deferred before the end")
			runtime.Goexit()
		}()
		<-done
	})
	caught("in a loop", func() {
		for i := 0; ; i++ {
			func() {
				defer func() { _ = recover() }()
				_ = list[i]
			}()
			if i == 100 {
				panic(errors.New("enough"))
			}
		}
	})
	fmt.Println(named(false))
	fmt.Println(named(true))
}

//go:noinline
func deep(n int, pad [40]int) int {
	if n == 0 {
		return pad[7]
	}
	pad[n%40] = n
	return deep(n-1, pad) + pad[(n+1)%40]&1
}

func stacks() {
	fmt.Println("deep", deep(3000, [40]int{7: 5}))
	var wg sync.WaitGroup
	sums := make([]int, 20)
	for i := range sums {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for depth := 1; depth < 600; depth *= 3 {
				runtime.Gosched()
				sums[i] += deep(depth, [40]int{i})
			}
		}()
	}
	wg.Wait()
	fmt.Println("stacks", sums)
}

func goroutines() {
	in, out := make(chan int), make(chan int)
	for range 4 {
		go func() {
			for v := range in {
				out <- v * v
			}
		}()
	}
	go func() {
		for i := range 200 {
			in <- i
		}
		close(in)
	}()
	total := 0
	for range 200 {
		select {
		case v := <-out:
			total += v
		case <-time.After(time.Minute):
			fmt.Println("late")
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	count := map[int]int{}
	for i := range 50 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 20 {
				mu.Lock()
				count[i%7]++
				mu.Unlock()
				runtime.Gosched()
			}
		}()
	}
	wg.Wait()
	fmt.Println("goroutines", total, count)
}

func loops() {
	sieve := make([]bool, 2000)
	primes := 0
	for i := 2; i < len(sieve); i++ {
		if sieve[i] {
			continue
		}
		primes++
		for j := i * i; j < len(sieve); j += i {
			sieve[j] = true
		}
	}
	found := -1
outer:
	for i := 0; i < 50; i++ {
		for j := i; ; j++ {
			switch {
			case i*j == 391:
				found = i*100 + j
				break outer
			case j > 60:
				continue outer
			}
		}
	}
	n, steps := 27, 0
again:
	if n != 1 {
		if n%2 == 0 {
			n /= 2
		} else {
			n = 3*n + 1
		}
		steps++
		goto again
	}
	matrix := [12][12]float64{}
	for i := range 12 {
		for j := range 12 {
			for k := 11; k >= 0; k-- {
				matrix[i][j] += float64(i*k) - float64(j)/3
			}
		}
	}
	var b strings.Builder
	for i, r := range "a\x80é世🌍" {
		fmt.Fprint(&b, i, ":", r, " ")
	}
	fmt.Println("loops", primes, found, steps, matrix[7][5], b.String())
}

func values() {
	var root *node
	x := uint32(1)
	for range 500 {
		x = x*1664525 + 1013904223
		root = root.insert(int(x >> 8))
	}
	shapes := []shape{square{2}, &circle{2}, square{0.5}}
	total := 0.0
	for _, s := range shapes {
		total += s.area()
	}
	words := strings.Fields("the quick brown fox jumps over the lazy dog")
	sort.Slice(words, func(i, j int) bool { return words[i] > words[j] })
	set := map[string][]int{}
	for i, w := range words {
		set[w] = append(set[w], i)
	}
	fmt.Println("values", root.sum(), total, words, slices.Sorted(maps.Keys(set)), crc32.ChecksumIEEE([]byte(strings.Repeat("abc", 1000))))
	fmt.Println(int8(x), int16(x), uint8(x), uint64(x)*uint64(x), float32(x), int64(float64(x)*1e-3), x%7, -int(x)/3, x<<3|x>>29, ^x)
}

// garbage allocates until there have been collections.
func garbage() {
	before := runtime.MemStats{}
	runtime.ReadMemStats(&before)
	var keep [64]*node
	for i := range 400_000 {
		keep[i%64] = &node{value: i, left: keep[(i+1)%64]}
		keep[i%64].left = nil
	}
	runtime.GC()
	after := runtime.MemStats{}
	runtime.ReadMemStats(&after)
	fmt.Println("garbage", after.NumGC > before.NumGC, keep[3].value)
}

func main() {
	panics()
	stacks()
	goroutines()
	loops()
	values()
	garbage()
	fmt.Println("end")
}
