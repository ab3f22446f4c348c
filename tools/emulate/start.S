/* start.S: from the boot loader's 32-bit mode to machine_main in 64-bit mode, with the vector
 * registers switched on that the processor has. Everything runs at the highest privilege, so that
 * a program's `syscall` comes back to the routine below without a change of address space. */
    .set FLAGS, 0x00010003          /* modules page-aligned, memory map wanted, addresses follow */
    .set MAGIC, 0x1BADB002

    .section .head, "ax"
    .code32
    .balign 4
header:
    .long MAGIC, FLAGS, -(MAGIC + FLAGS)
    .long header, header, image_end, bss_end, start

    .globl start
start:
    cli
    movl %ebx, %esi                 /* the loader's information */
    movl $stack_end, %esp

    /* One page table entry per GiB of the first 4 GiB, as 2 MiB pages. */
    movl $pages, %edi
    movl $0x83, %eax                /* present, writable, large */
    xorl %edx, %edx
1:  movl %eax, (%edi)
    movl $0, 4(%edi)
    addl $8, %edi
    addl $0x200000, %eax
    incl %edx
    cmpl $2048, %edx
    jb 1b
    movl $pages + 3, %eax
    movl $directories, %edi
    movl $4, %ecx
2:  movl %eax, (%edi)
    movl $0, 4(%edi)
    addl $8, %edi
    addl $4096, %eax
    loop 2b
    movl $directories + 3, top
    movl $0, top + 4

    movl $top, %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orl $0x40620, %eax              /* PAE, FXSR, SIMD exceptions, XSAVE */
    movl %eax, %cr4
    movl $0xC0000080, %ecx          /* EFER: long mode, syscall */
    rdmsr
    orl $0x101, %eax
    wrmsr
    movl %cr0, %eax
    andl $~0x4, %eax                /* no emulation of the FPU */
    orl $0x80000003, %eax           /* paging, protection, monitor */
    movl %eax, %cr0
    lgdt gdt_pointer
    ljmp $8, $long_mode

    .code64
long_mode:
    movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $stack_end, %esp
    fninit

    /* XCR0: everything among x87, SSE, AVX and AVX-512 that there is. */
    movl $0xD, %eax
    xorl %ecx, %ecx
    movl %esi, %r15d
    cpuid
    andl $0xE7, %eax
    xorl %edx, %edx
    xorl %ecx, %ecx
    xsetbv

    movl $0xC0000081, %ecx          /* STAR: code segment 8 on syscall */
    xorl %eax, %eax
    movl $8, %edx
    wrmsr
    movl $0xC0000082, %ecx          /* LSTAR */
    movl $syscall_entry, %eax
    xorl %edx, %edx
    wrmsr
    movl $0xC0000084, %ecx          /* FMASK: nothing cleared */
    xorl %eax, %eax
    wrmsr
    movl %r15d, %edi
    call machine_main
3:  hlt
    jmp 3b

/* Same stack, below the 128 bytes that a leaf function may use; rcx and r11 are the caller's to
 * lose. machine_syscall(registers) gets rdi rsi rdx r10 r8 r9 rax in memory. */
syscall_entry:
    leaq -128(%rsp), %rsp
    pushq %r11
    pushq %rcx
    pushq %rbp
    pushq %rbx
    pushq %rax
    pushq %r9
    pushq %r8
    pushq %r10
    pushq %rdx
    pushq %rsi
    pushq %rdi
    movq %rsp, %rdi
    movq %rsp, %rbp
    andq $-16, %rsp
    call machine_syscall
    movq %rbp, %rsp
    popq %rdi
    popq %rsi
    popq %rdx
    popq %r10
    popq %r8
    popq %r9
    popq %rax                       /* the result */
    popq %rbx
    popq %rbp
    popq %rcx
    popfq
    leaq 128(%rsp), %rsp
    jmp *%rcx

/* machine_enter(entry, stack) */
    .globl machine_enter
machine_enter:
    movq %rsi, %rsp
    xorl %edx, %edx
    xorl %ebp, %ebp
    jmp *%rdi

/* Faults: machine_fault(number, frame), the frame beginning with an error code or rip. */
    .altmacro
    .macro fault number
    .balign 16
    movl $\number, %edi
    movq %rsp, %rsi
    andq $-16, %rsp
    call machine_fault
    .endm
    .globl machine_faults
    .balign 16
machine_faults:
    .set i, 0
    .rept 32
    fault %i
    .set i, i + 1
    .endr

    .balign 8
gdt:
    .quad 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF
gdt_pointer:
    .word 23
    .long gdt

    .bss
    .balign 4096
top:
    .skip 4096
directories:
    .skip 4096
pages:
    .skip 4 * 4096
    .skip 32768
stack_end:

    .section .note.GNU-stack, "", @progbits
