// The processor kernels of the benchmarks: what C toolchains make of loops,
// calls, tables and memory. Each takes its size and returns a checksum. They
// need no C library.

#define KERNEL(name) __attribute__((export_name(#name))) int name(int n)

static double a[256 * 256], b[256 * 256], c[256 * 256];
static unsigned char bytes[4 << 20];
static char text[1 << 20], out[2 << 20];
static int v[1 << 20];
static unsigned seed = 1;

static unsigned next(void) { return seed = seed * 1664525 + 1013904223; }

static __attribute__((noinline)) int fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

KERNEL(fib) { return fibonacci(n); }

KERNEL(tiny) {
	unsigned sum = 0;
	for (unsigned i = n; i; i--) {
		sum += i ^ sum;
		__asm__ volatile("" : "+r"(sum)); // no closed form, no unrolling
	}
	return sum;
}

KERNEL(sieve) {
	int count = 0;
	__builtin_memset(bytes, 1, n);
	for (int i = 2; i < n; i++)
		if (bytes[i]) {
			count++;
			for (int j = i + i; j < n; j += i) bytes[j] = 0;
		}
	return count;
}

KERNEL(matmul) {
	for (int i = 0; i < n * n; i++) a[i] = i % 7, b[i] = i % 5;
	for (int i = 0; i < n; i++)
		for (int j = 0; j < n; j++) {
			double s = 0;
			for (int k = 0; k < n; k++) s += a[i * n + k] * b[k * n + j];
			c[i * n + j] = s;
		}
	double t = 0;
	for (int i = 0; i < n * n; i++) t += c[i];
	return (int)t;
}

static void quick(int *p, int n) {
	if (n < 2) return;
	int pivot = p[n / 2], i = 0, j = n - 1;
	for (;;) {
		while (p[i] < pivot) i++;
		while (p[j] > pivot) j--;
		if (i >= j) break;
		int t = p[i];
		p[i++] = p[j];
		p[j--] = t;
	}
	quick(p, i);
	quick(p + i, n - i);
}

KERNEL(sort) {
	seed = 1;
	for (int i = 0; i < n; i++) v[i] = next() >> 8;
	quick(v, n);
	for (int i = 1; i < n; i++)
		if (v[i - 1] > v[i]) return -1;
	return v[n / 2];
}

// SHA-256's compression without its table of constants.
KERNEL(hash) {
	unsigned h[8] = {1, 2, 3, 4, 5, 6, 7, 8}, w[64];
	for (int block = 0; block < n; block++) {
		for (int i = 0; i < 16; i++) w[i] = block * 16 + i;
#define ROR(x, k) ((x) >> (k) | (x) << (32 - (k)))
		for (int i = 16; i < 64; i++) {
			unsigned x = w[i - 15], y = w[i - 2];
			w[i] = w[i - 16] + w[i - 7] + (ROR(x, 7) ^ ROR(x, 18) ^ x >> 3) + (ROR(y, 17) ^ ROR(y, 19) ^ y >> 10);
		}
		unsigned s[8];
		for (int i = 0; i < 8; i++) s[i] = h[i];
		for (int i = 0; i < 64; i++) {
			unsigned t = s[7] + (ROR(s[4], 6) ^ ROR(s[4], 11) ^ ROR(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) + w[i] + i * 0x9e3779b9u;
			unsigned u = (ROR(s[0], 2) ^ ROR(s[0], 13) ^ ROR(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
			s[7] = s[6], s[6] = s[5], s[5] = s[4], s[4] = s[3] + t, s[3] = s[2], s[2] = s[1], s[1] = s[0], s[0] = t + u;
		}
		for (int i = 0; i < 8; i++) h[i] += s[i];
	}
	return h[0] ^ h[7];
}

KERNEL(base64) {
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	unsigned sum = 0;
	for (int i = 0; i < n; i++) bytes[i] = i * 7;
	char *to = out;
	for (int i = 0; i + 2 < n; i += 3) {
		unsigned x = bytes[i] << 16 | bytes[i + 1] << 8 | bytes[i + 2];
		*to++ = digits[x >> 18], *to++ = digits[x >> 12 & 63], *to++ = digits[x >> 6 & 63], *to++ = digits[x & 63];
	}
	for (char *p = out; p < to; p++) sum = sum * 31 + *p;
	return sum;
}

static double root(double x) { return __builtin_sqrt(x); }

KERNEL(nbody) {
	double p[5][3], u[5][3];
	for (int i = 0; i < 5; i++)
		for (int k = 0; k < 3; k++) p[i][k] = i * 3 + k + 1, u[i][k] = 0;
	for (int step = 0; step < n; step++) {
		for (int i = 0; i < 5; i++)
			for (int j = i + 1; j < 5; j++) {
				double d[3], r = 0.01;
				for (int k = 0; k < 3; k++) d[k] = p[i][k] - p[j][k], r += d[k] * d[k];
				double f = 0.001 / (r * root(r));
				for (int k = 0; k < 3; k++) u[i][k] -= d[k] * f, u[j][k] += d[k] * f;
			}
		for (int i = 0; i < 5; i++)
			for (int k = 0; k < 3; k++) p[i][k] += u[i][k] * 0.001;
	}
	return (int)(p[0][0] * 1000);
}

// A naive search, as strstr of small C libraries.
KERNEL(search) {
	for (int i = 0; i < n; i++) text[i] = "abab"[i & 3];
	const char *needle = "ababac";
	int found = 0;
	for (int i = 0; i + 6 <= n; i++) {
		int k = 0;
		while (k < 6 && text[i + k] == needle[k]) k++;
		found += k == 6;
	}
	return found;
}

// A scanner of JSON by recursive descent: calls, branches, a switch.
static const char *at, *end;

static int value(void);

static void space(void) {
	while (at < end && (*at == ' ' || *at == '\n')) at++;
}

static int string(void) {
	int length = 0;
	for (at++; at < end && *at != '"'; at++) length += *at != '\\';
	at++;
	return length;
}

static int members(char close) {
	int sum = 0;
	for (at++, space(); at < end && *at != close; space()) {
		if (close == '}') {
			sum += string();
			space();
			at++;
		}
		sum += value();
		space();
		if (*at == ',') at++;
	}
	at++;
	return sum;
}

static __attribute__((noinline)) int value(void) {
	space();
	switch (*at) {
	case '{': return members('}');
	case '[': return members(']');
	case '"': return string();
	case 't': at += 4; return 1;
	case 'n': at += 4; return 0;
	case 'f': at += 5; return 0;
	}
	int x = 0;
	while (at < end && (*at == '-' || *at == '.' || (*at >= '0' && *at <= '9'))) x = x * 10 + (*at++ - '0');
	return x;
}

KERNEL(json) {
	static const char item[] = "{\"id\": 12345, \"name\": \"somebody\", \"tags\": [\"a\", \"bc\", \"def\"], \"ok\": true, \"at\": {\"x\": 1.5, \"y\": -2.25, \"z\": null}}, ";
	char *p = text;
	*p++ = '[';
	while (p + sizeof item < text + sizeof text)
		for (unsigned i = 0; i < sizeof item - 1; i++) *p++ = item[i];
	*p++ = ']';
	int sum = 0;
	for (int i = 0; i < n; i++) {
		at = text, end = p;
		sum += value();
	}
	return sum;
}
