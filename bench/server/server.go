// An HTTP server on Go's net/http: GET /N gives N bytes. `bench-server-go [PORT [LEAF.PEM LEAF.KEY]]`
package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
)

var pages sync.Map

func answer(w http.ResponseWriter, r *http.Request) {
	page, known := pages.Load(r.URL.Path)
	if !known {
		size, _ := strconv.Atoi(r.URL.Path[1:])
		if size > 1<<20 {
			size = 1 << 20
		}
		page, _ = pages.LoadOrStore(r.URL.Path, bytes.Repeat([]byte("x"), size))
	}
	body := page.([]byte)
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Write(body)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(2)
}

func main() {
	log.SetOutput(io.Discard) // clients that leave in the middle of a handshake, as the load does when it ends
	port := "0"
	if len(os.Args) > 1 {
		port = os.Args[1]
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:"+port)
	if err != nil {
		fail(err)
	}
	fmt.Printf("listening %d\n", listener.Addr().(*net.TCPAddr).Port)
	if len(os.Args) > 3 {
		certificate, err := tls.LoadX509KeyPair(os.Args[2], os.Args[3])
		if err != nil {
			fail(err)
		}
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{certificate}})
	}
	fail(http.Serve(listener, http.HandlerFunc(answer)))
}
