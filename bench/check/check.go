// Theory of operation: net/http as it is meant to be used: one Client with a Transport of its own, and as many
// goroutines as checks are wanted at once, each taking the next check as soon as it has done one. DisableKeepAlives
// makes every check a connection and sends "Connection: close". Sessions are remembered only when asked for.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

func die(what ...any) {
	fmt.Fprintln(os.Stderr, what...)
	os.Exit(2)
}

func newClient(arguments []string) *http.Client {
	transport := &http.Transport{DisableKeepAlives: true}
	if len(arguments) > 2 {
		authority, err := os.ReadFile(arguments[2])
		if err != nil {
			die(err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(authority) {
			die("there is no certificate in", arguments[2])
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}
		if len(arguments) > 3 {
			transport.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(0)
		}
	}
	return &http.Client{Transport: transport}
}

// check gives the size of the body. That less came than Content-Length says is an error of reading.
func check(client *http.Client, url string) (int64, error) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("User-Agent", "bench")
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	size, err := io.Copy(io.Discard, response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", response.StatusCode)
	}
	return size, err
}

func percentile(sorted []int64, percent float64) int64 {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(float64(len(sorted)) * percent / 100)
	if rank >= len(sorted) {
		rank = len(sorted) - 1
	}
	return sorted[rank]
}

func carryOut(client *http.Client, url string, count int64, atOnce int) {
	began := time.Now()
	took := make([]int64, count)
	var begun, failed, bytes atomic.Int64
	var workers sync.WaitGroup
	for worker := 0; worker < atOnce; worker++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for {
				index := begun.Add(1) - 1
				if index >= count {
					return
				}
				since := time.Now()
				size, err := check(client, url)
				if err != nil {
					failed.Add(1)
					took[index] = -1
					continue
				}
				took[index] = int64(time.Since(since))
				bytes.Add(size)
			}
		}()
	}
	workers.Wait()
	wall := time.Since(began)
	sort.Slice(took, func(a, b int) bool { return took[a] < took[b] })
	good := took[failed.Load():]
	fmt.Printf("{\"checks\": %d, \"failed\": %d, \"bytes\": %d, \"wall_ns\": %d, \"p50_ns\": %d, \"p99_ns\": %d, \"p999_ns\": %d}\n",
		count, failed.Load(), bytes.Load(), int64(wall), percentile(good, 50), percentile(good, 99), percentile(good, 99.9))
}

func main() {
	if len(os.Args) < 2 {
		die("bench-check-go URL [CA-FILE [resume]]")
	}
	client := newClient(os.Args)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var count int64
		var atOnce int
		if _, err := fmt.Sscan(lines.Text(), &count, &atOnce); err != nil || atOnce < 1 {
			die("an order is COUNT AT-ONCE")
		}
		carryOut(client, os.Args[1], count, atOnce)
	}
}
