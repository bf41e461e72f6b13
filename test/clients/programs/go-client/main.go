// Go net/http.
package main

import (
	"bytes"
	"crypto/sha1"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

func letters(n int) []byte {
	return []byte(strings.Repeat("abcdefghijklmnopqrstuvwxyz", n/26+1)[:n])
}

// unsized hides its reader's type, so that net/http cannot know the length and sends chunks.
type unsized struct{ io.Reader }

func main() {
	client := &http.Client{Timeout: 15 * time.Second}
	for _, arg := range os.Args[1:] {
		name, url, _ := strings.Cut(arg, "=")
		ask := func(op, method, path string, body io.Reader) {
			request, err := http.NewRequest(method, url+path, body)
			if err != nil {
				panic(err)
			}
			answer, err := client.Do(request)
			if err != nil {
				fmt.Println(name, op, "failed:", err)
				os.Exit(1)
			}
			content, err := io.ReadAll(answer.Body)
			answer.Body.Close()
			if err != nil {
				fmt.Println(name, op, "failed:", err)
				os.Exit(1)
			}
			kind := answer.Header.Get("Content-Type")
			if kind == "" {
				kind = "-"
			}
			fmt.Printf("%s %s %d %d %x %s\n", name, op, answer.StatusCode, len(content), sha1.Sum(content), kind)
		}
		for i := 1; i <= 3; i++ {
			ask(fmt.Sprintf("small-%d", i), "GET", "/small", nil)
		}
		ask("head", "HEAD", "/small", nil)
		ask("missing", "GET", "/missing", nil)
		ask("post-small", "POST", "/echo", bytes.NewReader(letters(100)))
		ask("post-large", "POST", "/echo", bytes.NewReader(letters(200_000)))
		ask("post-chunked", "POST", "/echo", unsized{bytes.NewReader(letters(50_000))})
		ask("chunked", "GET", "/chunked", nil)
		ask("large", "GET", "/large", nil)
		ask("small-4", "GET", "/small", nil)
	}
}
