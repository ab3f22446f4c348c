/* main.c: the program's entry. */
#include <stdio.h>

int main(void)
{
    printf("bud %s\n", BUD_VERSION);
    return 0;
}
