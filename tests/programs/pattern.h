/* The content of a page: its first word names seed and page, the others follow from it. ConformanceTests/Pattern.cs says the same in C#. */
#ifndef PATTERN_H
#define PATTERN_H

#include <stdint.h>

#define PAGE 4096UL
#define WORDS (PAGE / 8)

static inline uint64_t first_word(uint64_t seed, uint64_t page)
{
    return (seed & 0xffffff) << 40 | (page & 0xffffffffff);
}

static inline uint64_t word_at(uint64_t first, uint64_t index)
{
    uint64_t x = first + index * 0x9e3779b97f4a7c15;
    return index == 0 ? first : (x ^ x >> 29) * 0xbf58476d1ce4e5b9;
}

static inline void fill_page(volatile uint64_t *words, uint64_t first)
{
    for (uint64_t i = 0; i < WORDS; i++) words[i] = word_at(first, i);
}

#endif
