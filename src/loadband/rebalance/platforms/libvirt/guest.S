/*
 * The guest of the platform libvirt: a boot sector that does a fixed amount of work every 10 ms and sleeps the rest.
 *
 * It starts in a fraction of a second, emulated or not, needs no kernel and no initramfs, and holds still enough to be
 * measured from outside. How much it has to do is sent to its serial port: a decimal number and a newline. If nothing
 * comes for 30 s it does nothing, and after a minute it ends: a guest that was left behind neither burns nor stays. Every
 * 100 ms it prints a point.
 *
 * Work that wasn't done in its 10 ms isn't made up for: no burst follows a pause or a move.
 *
 *     as --32 -o guest.o guest.S && ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o guest.img guest.o
 *
 * %ebp  units of work in a tick                   %esi  the number that is being read
 * %di   where in the working set it writes next   %es   the working set: 64 KiB that it keeps dirty
 */

        .set    PIT_MODE, 0x43
        .set    PIT_TIMER, 0x40
        .set    DIVISOR, 11932                  /* 1193182 Hz / 100 Hz */
        .set    PIC_COMMAND, 0x20
        .set    PIC_MASK, 0x21
        .set    SECOND_PIC_MASK, 0xa1
        .set    SERIAL, 0x3f8
        .set    SERIAL_FIFO, SERIAL + 2
        .set    SERIAL_STATUS, SERIAL + 5
        .set    TIMER_VECTOR, 8 * 4
        .set    WORKING_SET, 0x1000             /* a segment: from 64 KiB on */
        .set    WRITES, 250                     /* in a unit of work: half a microsecond of an emulated CPU */
        .set    PATIENCE, 3000                  /* ticks without a word until it does nothing */
        .set    LAST, 6000                      /* and until it ends */
        .set    EXIT, 0xf4                      /* QEMU's isa-debug-exit, if it has one; else libvirt ends what is reset */
        .set    KEYBOARD_COMMAND, 0x64
        .set    RESET, 0xfe
        .set    BEAT, 10                        /* ticks from one point to the next */

        .code16
        .globl  _start
_start:
        cli
        ljmp    $0, $main
main:
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %ss
        movw    $_start, %sp
        movw    $tick, TIMER_VECTOR
        movw    %ax, TIMER_VECTOR + 2
        movw    $WORKING_SET, %ax
        movw    %ax, %es
        xorw    %di, %di
        xorl    %ebp, %ebp
        xorl    %esi, %esi
        cld

        call    arm
        movb    $0xfe, %al                      /* nothing but the timer interrupts */
        outb    %al, $PIC_MASK
        movb    $0xff, %al
        outb    %al, $SECOND_PIC_MASK
        movw    $SERIAL_FIFO, %dx
        movb    $0x07, %al                      /* on, and emptied */
        outb    %al, %dx

wait:
        cli
        movw    ticks, %ax
        cmpw    last, %ax
        jne     turn
        sti                                     /* takes effect after the next instruction: no tick is slept through */
        hlt
        jmp     wait

turn:
        sti
        movw    %ax, last
        call    arm
        incw    silence
        cmpw    $PATIENCE, silence
        jb      beat
        xorl    %ebp, %ebp
        cmpw    $LAST, silence
        jb      beat
        movb    $RESET, %al
        outb    %al, $EXIT
        outb    %al, $KEYBOARD_COMMAND
beat:
        decb    until_beat
        jnz     receive
        movb    $BEAT, until_beat
        movw    $SERIAL, %dx
        movb    $'.', %al
        outb    %al, %dx

receive:
        movw    $SERIAL_STATUS, %dx
        inb     %dx, %al
        testb   $1, %al
        jz      work
        movw    $SERIAL, %dx
        inb     %dx, %al
        cmpb    $'\n', %al
        je      newline
        subb    $'0', %al
        cmpb    $9, %al
        ja      receive
        movzbl  %al, %eax
        imull   $10, %esi, %esi
        addl    %eax, %esi
        jmp     receive
newline:
        movl    %esi, %ebp
        xorl    %esi, %esi
        movw    $0, silence
        jmp     receive

work:
        movl    %ebp, %ecx
        testl   %ecx, %ecx
        jz      wait
unit:
        movw    $WRITES, %bx
write:
        incl    %es:(%di)
        addw    $4, %di
        decw    %bx
        jnz     write
        decl    %ecx
        jnz     unit
        jmp     wait

/* The next tick comes 10 ms from now. A periodic timer would send those that a busy host kept from us all at once. */
arm:
        movb    $0x30, %al                      /* counter 0, both bytes, once */
        outb    %al, $PIT_MODE
        movw    $DIVISOR, %ax
        outb    %al, $PIT_TIMER
        movb    %ah, %al
        outb    %al, $PIT_TIMER
        ret

tick:
        pushw   %ax
        incw    ticks
        movb    $PIC_COMMAND, %al               /* end of interrupt: the same number, to the same port */
        outb    %al, $PIC_COMMAND
        popw    %ax
        iretw

ticks:  .word   0
last:   .word   0
silence: .word  0
until_beat: .byte BEAT

        .org    510
        .word   0xaa55                          /* the firmware boots only what ends so */
