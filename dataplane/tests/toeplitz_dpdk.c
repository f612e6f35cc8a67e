/* Reads lines "COUNT WORD...", words in hexadecimal, and writes DPDK's Toeplitz hash of each with the key in the first argument. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <rte_thash.h>

int main(int argc, char **argv)
{
	uint8_t key[40];
	uint32_t words[9], count;

	if (argc != 2 || strlen(argv[1]) != 2 * sizeof(key))
		return 1;
	for (size_t i = 0; i < sizeof(key); i++)
		if (sscanf(argv[1] + 2 * i, "%2" SCNx8, &key[i]) != 1)
			return 1;
	while (scanf("%" SCNu32, &count) == 1) {
		if (count > 9)
			return 1;
		for (uint32_t i = 0; i < count; i++)
			if (scanf("%" SCNx32, &words[i]) != 1)
				return 1;
		printf("%08" PRIx32 "\n", rte_softrss(words, count, key));
	}
	return 0;
}
