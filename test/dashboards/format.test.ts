import { expect, test } from 'vitest'
import { age, money, shortMoney } from '../../dashboards/format.ts'

const digits = (text: string) => text.replace(/[^\d.,-]/g, '')

test('minor units follow the currency: cents, no decimals, thousandths', () => {
  expect(digits(money(123_456, 'EUR'))).toBe('1,234.56')
  expect(digits(money(123_456, 'JPY'))).toBe('123,456')
  expect(digits(money(123_456, 'KWD'))).toBe('123.456')
})

test('short money is rounded to one decimal of a large unit', () => {
  expect(digits(shortMoney(123_456_789, 'USD'))).toBe('1.2')
  expect(digits(shortMoney(4200, 'USD'))).toBe('42')
})

test('a currency that is no code still has an amount', () => {
  expect(money(123_456, 'not a code')).toBe('1,234.56')
})

test('ages have one unit', () => {
  const spans = [-5, 0, 400, 9_999, 45_000, 180_000, 7_200_000, 400_000_000]
  expect(spans.map(age)).toEqual([
    '0.0 s',
    '0.0 s',
    '0.4 s',
    '10.0 s',
    '45 s',
    '3 min',
    '2 h',
    '5 d',
  ])
})
