package console

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// patience is how long something may take before a person wants to know.
const patience = 500 * time.Millisecond

// frames of the sign of life.
var frames = [...]string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}

// Progress is something that may take long. It shows itself after half a
// second: on a terminal by a line that is replaced, elsewhere by one line.
type Progress struct {
	console *Console
	began   time.Time
	ended   chan struct{}
	done    chan struct{}

	mu   sync.Mutex
	text string
}

// Progress begins to show something. The caller must call Done.
func (c *Console) Progress(text string) *Progress {
	p := &Progress{console: c, began: time.Now(), text: text, ended: make(chan struct{}), done: make(chan struct{})}
	go p.show()
	return p
}

// Update changes the text, for example to say how far it is.
func (p *Progress) Update(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = fmt.Sprintf(format, args...)
}

// Done takes the line away and returns how long it took. It may be called once.
func (p *Progress) Done() time.Duration {
	close(p.ended)
	<-p.done
	return time.Since(p.began)
}

func (p *Progress) show() {
	defer close(p.done)
	wait := time.NewTimer(patience)
	defer wait.Stop()
	select {
	case <-p.ended:
		return
	case <-wait.C:
	}
	if !p.console.terminal {
		p.console.Printf("%s ...", p.now())
		<-p.ended
		return
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		p.console.replace(fmt.Sprintf("%s %s %s", p.console.Paint(Hue(0), frames[i%len(frames)]), p.now(),
			p.console.Paint(Faint, fmt.Sprintf("%.1f s", time.Since(p.began).Seconds()))))
		select {
		case <-p.ended:
			p.console.replace("")
			return
		case <-tick.C:
		}
	}
}

func (p *Progress) now() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text
}

// replace writes over the progress line; an empty text takes it away.
func (c *Console) replace(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear()
	if text != "" {
		io.WriteString(c.out, text)
		c.live = true
	}
}
